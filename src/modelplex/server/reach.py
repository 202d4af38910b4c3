"""`modelplex check --reach`: asks each provider of a config for its models."""

from __future__ import annotations

import asyncio

import msgspec

from modelplex.config import Config
from modelplex.core.errors import ModelplexError, without_name
from modelplex.http_client import HttpClient
from modelplex.pipeline.upstream import Upstream
from modelplex.server.from_config import build_upstreams


class ReachResult(msgspec.Struct, frozen=True):
    """Whether a provider listed its models."""

    provider: str
    ok: bool
    sentence: str
    answered: bool = False
    """It sent a response, if not a list of models."""


async def reach(config: Config) -> list[ReachResult]:
    """Ask every provider for its models, all at once."""
    client = HttpClient()

    async def ask(upstream: Upstream) -> ReachResult:
        try:
            models = await upstream.models()
        except ModelplexError as error:
            sentence = without_name(error.message, upstream.name)
            return ReachResult(
                upstream.name, ok=False, sentence=sentence, answered=error.upstream_status is not None
            )
        return ReachResult(upstream.name, ok=True, sentence=f"{len(models)} models")

    try:
        return list(await asyncio.gather(*(ask(u) for u in build_upstreams(config, client).values())))
    finally:
        await client.aclose()
