"""`modelplex check --reach`: requests the model list of each provider of a config."""

from __future__ import annotations

import asyncio

import msgspec

from modelplex.config import Config
from modelplex.core.errors import ModelplexError, without_name
from modelplex.http_client import HttpClient
from modelplex.pipeline.upstream import Upstream
from modelplex.server.from_config import build_upstreams


class ReachResult(msgspec.Struct, frozen=True):
    """Whether a provider listed its models. `answered`: it sent a response, but no list."""

    provider: str
    ok: bool
    sentence: str
    answered: bool = False


async def check_reach(config: Config) -> list[ReachResult]:
    """Request the models of all providers at once."""
    client = HttpClient()

    async def check(upstream: Upstream) -> ReachResult:
        try:
            models = await upstream.models()
        except ModelplexError as error:
            sentence = without_name(error.message, upstream.name)
            return ReachResult(
                upstream.name, ok=False, sentence=sentence, answered=error.upstream.status is not None
            )
        return ReachResult(upstream.name, ok=True, sentence=f"{len(models)} models")

    try:
        return list(await asyncio.gather(*(check(u) for u in build_upstreams(config, client).values())))
    finally:
        await client.aclose()
