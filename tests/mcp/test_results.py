"""What of a server's words is passed on where the host wants less than all of them."""

from __future__ import annotations

import msgspec
import pytest

from modelplex.mcp.constants import Json, McpReply
from modelplex.mcp.results import escape, escape_message, truncate
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, Sent, error, result, text, tool

LIMIT = 400


def size(value: object) -> int:
    return len(msgspec.json.encode(value))


def texts(*each: str) -> list[Json]:
    return [{"type": "text", "text": text} for text in each]


@pytest.mark.parametrize("letters", ["x", "ü", "\n", "😀", '"'])
def test_a_large_text_is_cut_with_a_notice(letters: str) -> None:
    whole: Json = {"content": texts("first", letters * 5_000, "last")}
    shorter = truncate(whole, limit=LIMIT, size=size(whole))
    assert shorter is not None
    assert LIMIT - 16 <= size(shorter) <= LIMIT
    first, second, notice = shorter["content"]
    assert first["text"] == "first"
    assert set(second["text"]) == {letters}
    assert notice["text"].startswith(f"Cut here: the whole result has {size(whole)} bytes")
    assert "isError" not in shorter
    assert len(whole["content"]) == 3


def test_content_that_cannot_be_cut_is_left_out() -> None:
    image: Json = {"type": "image", "data": "A" * 5_000, "mimeType": "image/png"}
    shorter = truncate(
        {"content": [*texts("a"), image, *texts("b")], "_meta": {"x": 1}}, limit=LIMIT, size=9_999
    )
    assert shorter is not None
    assert shorter["content"][0]["text"] == "a"
    assert len(shorter["content"]) == 2
    assert shorter["_meta"] == {"x": 1}
    structured: Json = {"content": texts("a"), "structuredContent": {"rows": ["x" * 5_000]}}
    shorter = truncate(structured, limit=LIMIT, size=9_999)
    assert shorter is not None
    assert "structuredContent" not in shorter
    assert shorter["isError"] is True
    small: Json = {"content": texts("a" * 5_000), "structuredContent": {"rows": 3}}
    shorter = truncate(small, limit=LIMIT, size=9_999)
    assert shorter is not None
    assert shorter["structuredContent"] == {"rows": 3}
    assert "isError" not in shorter
    assert truncate({"content": [], "_meta": {"x": "y" * 5_000}}, limit=LIMIT, size=9_999) is None


def test_invisible_characters_are_escaped() -> None:
    assert escape("\x1b[31mred\x07\x7f\x9b") == "\\x1b[31mred\\x07\\x7f\\x9b"
    assert escape("a\u202eb\u200b\ufeff\U000e0041") == "a\\u202eb\\u200b\\ufeff\\U000e0041"
    assert escape("over\rwritten\r\n\tkept\n") == "over\\x0dwritten\r\n\tkept\n"
    assert escape("Ünïcödé 👩\u200d💻 \u0646\u200c") == "Ünïcödé 👩\u200d💻 \u0646\u200c"
    found = escape_message(
        {"content": texts("\x1b"), "structuredContent": {"a": ["\x07", 1, None]}, "_meta": {"k": "\x1b"}}
    )
    assert found["content"] == texts("\\x1b")
    assert found["structuredContent"] == {"a": ["\\x07", 1, None]}
    assert found["_meta"] == {"k": "\x1b"}


async def says(sent: Sent) -> McpReply:
    assert sent.on_notification is not None
    for data in ("\x1b[2J", {"deep": "\x1b"}):
        params = {"level": "error", "data": data}
        sent.on_notification({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
    if sent.params["name"] == "fails":
        return McpReply.failed(7, "\x1b[0m")
    return McpReply(result={"content": texts("\x1b]0;title\x07" + "x" * 70_000)})


@pytest.mark.parametrize("plain_text", [True, False])
async def test_plain_text_escapes_a_servers_results(plain_text: bool) -> None:
    server = ScriptedServer("a", tools=[tool("x"), tool("fails")], script=says, plain_text=plain_text)
    harness = Harness(server)
    client = ScriptedClient("legacy")
    shown = {True: "\\x1b", False: "\x1b"}[plain_text]
    assert text(await harness.call(client, "a__x")).startswith(shown + "]0;title")
    assert error(await harness.call(client, "a__fails"))["message"] == shown + "[0m"
    assert [each["params"]["data"] for each in client.notifications[:2]] == [shown + "[2J", {"deep": shown}]


async def test_a_result_that_is_too_large_is_refused_or_cut_as_the_config_says() -> None:
    for oversized, reason in (("refuse", "size"), ("cut", "")):
        harness = Harness(
            ScriptedServer("a", tools=[tool("x")], script=says), max_result=65_536, oversized=oversized
        )
        reply = await harness.call(ScriptedClient(), "a__x")
        assert reply.reason == reason
        assert size(reply.result) <= 65_536
        assert result(reply).get("isError", False) is (oversized == "refuse")
        assert harness.calls[0].bytes_out > 70_000
