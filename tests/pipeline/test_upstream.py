"""A provider at run time: errors of the HTTP client, headers that are passed on, and secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelplex.core.errors import UpstreamBroken, UpstreamTimeout
from modelplex.http_client import ConnectFailed, ResponseTooLarge, SendError, TimedOut
from modelplex.pipeline.upstream import (
    START_SIZE,
    STARTS,
    HttpUpstream,
    forwarded_headers,
    map_send_error,
)
from tests.gateways import gateway, one
from tests.upstreams import answer, provider


@pytest.mark.parametrize(
    ("error", "kind", "signal"),
    [
        (ConnectFailed("It refused the connection."), UpstreamBroken, "unsent"),
        (TimedOut("No connection in 5 seconds.", phase="connect"), UpstreamTimeout, "unsent"),
        (TimedOut("Nothing in 5 seconds.", phase="first_byte"), UpstreamTimeout, "by_kind"),
        (ResponseTooLarge("Too large.", limit=5), UpstreamBroken, "none"),
    ],
)
def test_an_error_of_the_client_is_the_providers(
    error: SendError, kind: type[Exception], signal: str
) -> None:
    mapped = map_send_error("acme", error)
    assert type(mapped) is kind
    assert mapped.signal == signal
    assert mapped.message == f"acme: {error.sentence}"


def test_the_name_of_a_host_is_left_out() -> None:
    mapped = map_send_error("acme", ConnectFailed("The name llm.internal could not be resolved."))
    assert mapped.message == "acme: The name of the provider could not be resolved."


def test_limits_and_ids_are_passed_on_and_nothing_else() -> None:
    given = [
        (b"retry-after", b"3"),
        (b"x-ratelimit-remaining-requests", b"9"),
        (b"anthropic-ratelimit-tokens-limit", b"8"),
        (b"x-request-id", b"req_1"),
        (b"set-cookie", b"a=b"),
        (b"server", b"nginx"),
    ]
    assert forwarded_headers(given) == [*given[:3], (b"x-modelplex-upstream-request-id", b"req_1")]


async def test_the_request_heads_that_are_kept_are_bounded_in_number_and_size(tmp_path: Path) -> None:
    """A client chooses its betas: each other value makes another head."""
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]})
    async with (
        provider(answer(b"{}", status=400)) as up,
        gateway(one(up.url, type="anthropic", api_key="sk-ours"), folder=tmp_path) as gw,
    ):
        upstream = gw.process.app.gateway.upstreams["up"]
        assert isinstance(upstream, HttpUpstream)
        for betas in (*(f"beta-{n}" for n in range(STARTS)), "b" * START_SIZE, "last"):
            headers = ((b"content-type", b"application/json"), (b"anthropic-beta", betas.encode()))
            assert (await gw.ask("POST", "/v1/messages", body.encode(), headers=headers)).status == 400
            assert up.seen[-1].headers["anthropic-beta"] == betas
            assert len(upstream._starts) <= STARTS
        assert max(map(len, upstream._starts.values())) <= START_SIZE
        assert len(upstream._starts) == 1
