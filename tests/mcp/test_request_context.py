"""The context of a request, and the gateway's own errors."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    META_SERVER,
    RESOURCE_NOT_FOUND,
    Unavailable,
)
from modelplex.mcp.request_context import (
    ToolRequestContext,
    invalid,
    tool_refused,
    unavailable,
    unknown,
    unlisted,
)
from tests.mcp.harness import ScriptedClient, error, result, text


@pytest.mark.parametrize(("params", "expected"), [({"a": 1}, {"a": 1}), (None, {}), ([1], {}), ("x", {})])
def test_params_are_an_object(params: Any, expected: Any) -> None:
    client = ScriptedClient(tools=("a__*",))
    context = ToolRequestContext(client, {"id": 7, "method": "m", "params": params}, route="a")
    assert (context.params, context.id, context.method, context.route) == (expected, 7, "m", "a")
    assert (context.globs, context.modern) == (("a__*",), True)
    assert ToolRequestContext(client, {"method": "m"}, route=None).id is None


def test_only_a_call_has_a_record() -> None:
    context = ToolRequestContext(ScriptedClient(), {"method": "m"}, route=None)
    with pytest.raises(AssertionError):
        _ = context.builder


def test_an_unknown_name_is_cut() -> None:
    reply = unknown("tool", "x" * 1_000)
    assert error(reply) == {"code": INVALID_PARAMS, "message": f"Unknown tool: {'x' * 100}"}
    assert (reply.reason, invalid("no").reason) == ("unknown", "invalid")


def test_an_unlisted_resource_has_the_code_of_the_clients_era() -> None:
    codes = [
        error(unlisted(ToolRequestContext(ScriptedClient(era), {"method": "m"}, route=None), "a:b"))
        for era in ("legacy", "modern")
    ]
    assert [each["code"] for each in codes] == [RESOURCE_NOT_FOUND, INVALID_PARAMS]
    assert codes[0]["data"] == {"uri": "a:b"}


def test_a_refused_tool_is_a_result_in_the_clients_era() -> None:
    legacy, modern = (tool_refused("no", reason="policy", era=era) for era in ("legacy", "modern"))
    assert result(legacy) == {"content": [{"type": "text", "text": "no"}], "isError": True}
    assert text(modern) == "no"
    assert (result(modern)["resultType"], META_SERVER in result(modern)["_meta"]) == ("complete", True)
    assert modern.reason == "policy"


@pytest.mark.parametrize(
    ("server", "retry_after", "data"),
    [
        ("git", None, {"reason": "lost", "server": "git"}),
        ("", 1.5, {"reason": "lost", "retryAfterMs": 1500}),
    ],
)
def test_an_unavailable_server_has_reason_and_retry_time(
    server: str, retry_after: float | None, data: dict[str, Any]
) -> None:
    reply = unavailable(Unavailable("gone", server=server, reason="lost", retry_after=retry_after))
    assert error(reply) == {"code": INTERNAL_ERROR, "message": "gone", "data": data}
    assert reply.reason == "lost"
