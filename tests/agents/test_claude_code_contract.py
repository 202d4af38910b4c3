"""The contract that Claude Code's own gateway serves at `GET /protocol`, read from the pinned
program, and what Modelplex answers to each of its requests.

A new version that asks for another path, or sends another beta, fails here by its name. The sign-in
is not served: agents are told apart by socket or token, and `ANTHROPIC_BASE_URL` needs none.
"""

from __future__ import annotations

import mmap
import re
from functools import cache
from pathlib import Path

import pytest

from modelplex.dialects.anthropic.betas import betas
from tests.agents.installed import platform
from tests.gateways import gateway
from tests.policy.judging import amended, assert_allowed, messages

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

SERVED = {
    "GET /v1/models": 200,
    "POST /v1/messages": 400,
    "POST /v1/messages/count_tokens": 400,
    "POST /v1/metrics": 200,
    "POST /v1/logs": 200,
    "POST /v1/traces": 200,
    # Optional; the contract says that 404 is "no managed policy", and no amounts.
    "GET /managed/settings": 404,
    "GET /api/oauth/usage": 404,
    "GET /.well-known/oauth-authorization-server": 404,
}
"""The status of an empty request, whose body is refused where one is needed."""
OF_SIGN_IN = {
    "GET {base}/.well-known/oauth-authorization-server",
    "GET/POST {verification_uri}",
    "POST device_authorization_endpoint",
    "POST {device_authorization_endpoint}",
    "POST {revocation_endpoint}",
    "POST {token_endpoint}",
}
SECTIONS = (
    "Flow, Discovery, Device authorization, Verification page, Token, Messages, Managed settings, Models, "
    "Telemetry, Errors, Usage-limit headers, Billing group, Bearer token, TLS, Client guarantees, "
    "Proxying to Bedrock, Vertex, or Foundry, References"
)
VERSIONS = {"bedrock", "vertex"}
"""Versions of the API in bodies for clouds ("bedrock-2023-05-31"), which are no betas."""
DATED_TYPES = {
    "advisor_20260301": "second-model",
    "clear_thinking_20251015": None,
    "clear_tool_uses_20250919": None,
    "compact_20260112": None,
    "web_search_20250305": "web-search",
}
"""Tools and edits of a context with a date in the program, and the rule that strips each; None: it
passes.
"""


@cache
def contract() -> str:
    with Path(platform("@anthropic-ai/claude-code", "claude")).open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
            at = program.find(b"This is the wire contract the Claude Code CLI uses")
            assert at > 0, "the program holds no contract"
            end = re.compile(rb"(?<!\\)`").search(program, at)
            assert end is not None
            return program[at : end.start()].decode().replace("\\`", "`").replace("\\u2014", "-")


def test_each_part_and_path_is_decided() -> None:
    text = contract()
    found = [each.partition(" - ")[0] for each in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    assert ", ".join(found) == SECTIONS
    paths = set(re.findall(r"`((?:GET|POST|GET/POST|PUT|DELETE|PATCH) [^`\s]+)`", text))
    paths |= {f"POST {each}" for each in re.findall(r"`(/v1/[a-z_/]+)`", text)} - {"POST /v1/models"}
    assert paths == set(SERVED) | OF_SIGN_IN


@pytest.mark.parametrize("what", SERVED)
async def test_the_gateway_answers_as_the_contract_says(what: str, tmp_path: Path) -> None:
    method, _, path = what.partition(" ")
    async with gateway('[[providers]]\nname = "up"\ntype = "demo"\n', folder=tmp_path) as gw:
        got = await gw.ask(method, path, {} if method == "POST" else None)
        assert got.status == SERVED[what], got.body


@cache
def found(pattern: bytes) -> set[str]:
    """What the program has of this pattern."""
    with Path(platform("@anthropic-ai/claude-code", "claude")).open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
            return {match[1].decode() for match in re.finditer(pattern, program)}


def test_each_beta_of_the_program_is_decided() -> None:
    """In betas.toml, from which docs/reference/betas.md is made."""
    names = found(rb'"([a-z0-9]+(?:-[a-z0-9]+)*)-20[0-9]{2}-[01][0-9]-[0-3][0-9]"')
    assert len(names) > 50
    assert names - betas().keys() == VERSIONS
    ours = {name for name, beta in betas().items() if beta.source.startswith("the program claude-code")}
    assert ours - names - {"claude-code"} == set()  # which has a date without dashes


def test_each_dated_type_of_the_program_is_decided() -> None:
    assert found(rb'"([a-z]+(?:_[a-z]+)*_20[0-9]{6})"') == DATED_TYPES.keys()
    for name, rule in DATED_TYPES.items():
        if name.startswith(("clear", "compact")):
            assert_allowed(messages(context_management={"edits": [{"type": name}]}), "anthropic_messages")
        else:
            body = messages(tools=[{"type": name, "name": "x"}])
            assert amended(body, "anthropic_messages")[1] == {"/tools/0": rule}
