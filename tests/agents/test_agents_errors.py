"""The errors that real agents show their users: docs/reference/errors.md has them as a table.

A gateway with a scripted provider makes each. An agent shows the gateway's sentence, and neither a
login nor a service at capacity.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from modelplex.http_client import Timeouts, parse_origin
from tests.agents.installed import run
from tests.agents.test_agents import AGENTS, Place, place
from tests.gateways import WAIT_S, Running, gateway
from tests.upstreams import Act, answer, chat_answer, provider

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

MISLEADING = re.compile(r"log ?in\b|sign ?in\b|authenticat|at capacity|overloaded", re.IGNORECASE)
ERROR = {"message": "It is wrong.", "type": "invalid_request_error", "param": None}
REFUSED = answer({"error": ERROR | {"code": "invalid_api_key"}}, status=401)
LIMITED = answer({"error": ERROR | {"code": "rate_limit_exceeded"}}, status=429, retry_after="600")
PAGE = answer(b"<html><h1>502 Bad Gateway</h1><hr>nginx</html>", status=502, label="text/html")
FINE = answer(chat_answer())
DEAD = "http://127.0.0.1:9/v1"


@dataclass
class Situation:
    """`sentence` is what every agent shows. `agent` are rows of its [[agents]] table; `used`
    requests are made before. Without `act` nothing listens at the provider's address.
    """

    sentence: str
    act: Act | None = None
    agent: str = ""
    used: int = 0


SITUATIONS = {
    "budget": Situation(
        "the budget of the agent 'coder' is used up", FINE, "budget = { tokens = 1, per = 'total' }\n", 1
    ),
    "circuit open": Situation("No provider of this model accepts requests yet", LIMITED, used=1),
    "our key refused": Situation("it rejected the API key that the gateway has for it", REFUSED),
    "unreachable": Situation("the provider refused the connection", None),
    "a proxy's page": Situation("The provider answered 502: (a page, not JSON)", PAGE),
    "no such model": Situation("model", FINE, "models = ['another']\n"),
}
SHOWN = {
    "claude-code": list(SITUATIONS),
    # Codex and opencode wait for as long as retry-after says before they show anything.
    "codex": ["budget", "our key refused", "unreachable", "a proxy's page", "no such model"],
    # opencode and gemini-cli repeat a 5xx for a minute and more, whatever x-should-retry says.
    "opencode": ["budget", "no such model"],
    "gemini-cli": ["budget", "circuit open", "no such model"],
}
FEWER_RETRIES = {"CLAUDE_CODE_MAX_RETRIES": "1"}


@asynccontextmanager
async def situated(situation: Situation, place: Place) -> AsyncGenerator[tuple[Running, str]]:
    """The gateway, and the agent's socket."""
    folder = place.home.parent
    socket = str(folder / "a.sock")
    async with provider(situation.act or FINE) as upstream:
        config = f"""
[server]
state_folder = "{folder / "state"}"

[[providers]]
name = "up"
type = "together"
base_url = "{DEAD if situation.act is None else upstream.url}"
api_key = "sk-ours"
models = ["up-model"]

[aliases]
"*" = "up/up-model"

[failover]
backoff = 0.01

[[agents]]
name = "coder"
socket = "{socket}"
{situation.agent}
"""
        async with gateway(config, folder=folder) as gw:
            origin, _ = parse_origin(f"unix:{socket}")
            for _ in range(situation.used):
                reply = await gw.client.send(
                    origin,
                    target=b"/v1/chat/completions",
                    headers=[(b"content-type", b"application/json")],
                    body=json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode(),
                    timeouts=Timeouts(connect=WAIT_S, first_byte=WAIT_S, idle=WAIT_S),
                )
                await reply.body(limit=100_000)
            yield gw, socket


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, whats in SHOWN.items() for what in whats])
async def test_an_agent_shows_the_error_and_no_login(name: str, what: str, place: Place) -> None:
    situation = SITUATIONS[what]
    async with situated(situation, place) as (gw, socket):
        command, environ = AGENTS[name].start(place)
        done = await run(
            command, socket=socket, home=place.home, cwd=place.work, environ={**environ, **FEWER_RETRIES}
        )
        shown = done.out + done.errors
        facts = f"{shown[-3000:]}\n{[(r.status, r.code) for r in gw.records]}"
        assert done.status != 0, facts
        assert situation.sentence in shown.replace('\\"', '"'), facts
        assert not MISLEADING.search(shown), facts
        assert "nginx" not in shown, facts
