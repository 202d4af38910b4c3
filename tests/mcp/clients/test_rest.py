"""The plain form: docs/reference/mcp-protocol.md#agent-facing-routes and #error-codes, M19."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelplex.config.mcp_settings import McpConfig
from tests.mcp.clients.scripted import TOOLS, call, place, request


async def test_the_plain_list_has_the_tools_of_mcp_with_their_servers(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        for unix in (False, True):
            answer = await there.post(b"", method="GET", path="/mcp/v1/tools", unix=unix)
            assert (answer.status, answer.json) == (200, {"tools": TOOLS})
        head = await there.open(b"", method="HEAD", path="/mcp/v1/tools")
        assert (await head.head())[0] == 200
        found = await there.modern(request("tools/list"))
        assert [each["name"] for each in found.json["result"]["tools"]] == [each["name"] for each in TOOLS]


async def test_a_plain_call_has_the_result_of_mcp(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        plain = await there.post({"arguments": {"a": 1}}, path="/mcp/v1/tools/one__echo/call")
        through = await there.modern(call("one__echo", {"a": 1}))
        result = through.json["result"]
        assert plain.status == 200
        assert plain.json == {key: result[key] for key in result if key not in ("resultType", "_meta")}
        bodies: list[Any] = [b"", {}]
        for body in bodies:
            assert (await there.post(body, path="/mcp/v1/tools/one__echo/call")).status == 200
        failed = await there.post({}, path="/mcp/v1/tools/fails/call")
        assert (failed.status, failed.json["isError"]) == (200, True)


@pytest.mark.parametrize(
    ("tool", "status", "type"),
    [
        ("nothing", 404, "invalid_request_error"),
        ("policy", 403, "policy_denied"),
        ("limit", 429, "rate_limit_exceeded"),
        ("timeout", 504, "upstream_error"),
        ("crash_loop", 503, "overloaded"),
        ("invalid", 400, "invalid_request_error"),
        ("capability", 400, "invalid_request_error"),
        ("client", 400, "invalid_request_error"),
        ("invalid_answer", 502, "upstream_error"),
        ("own", 502, "upstream_error"),
    ],
)
async def test_a_refusal_has_the_shape_of_openai_errors(
    tmp_path: Path, tool: str, status: int, type: str
) -> None:
    async with place(tmp_path) as there:
        answer = await there.post({}, path=f"/mcp/v1/tools/{tool}/call")
        assert answer.status == status
        error = answer.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == type
        assert error["message"]
        assert error["code"].startswith("tool_")
        assert answer.headers.get("retry-after") == (None if tool in {"nothing", "policy", "own"} else "2")


async def test_a_body_that_is_no_call_is_a_400(tmp_path: Path) -> None:
    async with place(tmp_path, config=McpConfig(enabled=True, max_message=100)) as there:
        path = "/mcp/v1/tools/one__echo/call"
        bodies: list[Any] = [b"{", [], {"arguments": 3}, {"arguments": None}]
        for body in bodies:
            assert (await there.post(body, path=path)).status == 400
        assert (await there.post(b" " * 101, path=path)).json["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("POST", "/mcp/v1/tools", "GET"), ("GET", "/mcp/v1/tools/a/call", "POST")]
)
async def test_another_method_is_a_405(tmp_path: Path, method: str, path: str, allow: str) -> None:
    async with place(tmp_path) as there:
        answer = await there.post(b"", method=method, path=path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
