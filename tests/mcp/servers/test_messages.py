"""Reading the messages of a server."""

import pytest

from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp.constants import INTERNAL_ERROR, Json
from modelplex.mcp.servers.messages import MessageReader

VALUES = b"{}," * 100


def read_messages(data: bytes, *, limit: int) -> list[Json]:
    return MessageReader(McpConfig(max_result=limit)).read(data)


@pytest.mark.parametrize("odd", [rb"\udce9", rb"\ud83d", b"\xe9", b"\xed\xb3\xa9", rb"\udce9" + b"\xe9"])
def test_invalid_text_is_replaced(odd: bytes) -> None:
    whole = b'{"jsonrpc":"2.0","id":1,"result":{"a":"<%b>","b":"\\\\udce9"}}' % odd
    (message,) = read_messages(whole, limit=1_000)
    assert message["result"]["a"].strip("<\ufffd>") == ""
    assert message["result"]["b"] == "\\udce9"
    assert read_messages(whole[:-1], limit=1_000) == []


def test_a_batch_has_several_messages_and_other_values_are_skipped() -> None:
    assert read_messages(b' [{"id":1},5,{"method":"x"}]', limit=1_000) == [{"id": 1}, {"method": "x"}]
    for data in (b"", b"5", b'"text"', b"null", b"{", b"[" * 100_000, b"Listening on port 80"):
        assert read_messages(data, limit=1_000_000) == []


def test_a_large_response_becomes_an_error_with_its_size_and_is_not_decoded() -> None:
    data = b'{"jsonrpc":"2.0","id":7,"result":{"content":[%b1]}}' % VALUES
    text = f"The result of {len(data)} bytes is larger than the limit of 100 bytes."
    content: Json = {"content": [{"type": "text", "text": text}], "isError": True}
    assert read_messages(data, limit=100) == [{"jsonrpc": "2.0", "id": 7, "result": content}]
    assert read_messages(data, limit=len(data))[0]["result"]["content"][-1] == 1


@pytest.mark.parametrize("member", [b'"error":[%b1]', b'"result":{"tools":[%b1]}'])
def test_a_large_response_without_content_becomes_a_json_rpc_error(member: bytes) -> None:
    (message,) = read_messages(b'{"jsonrpc":"2.0","id":"a",%b}' % (member % VALUES), limit=100)
    assert message["id"] == "a"
    assert message["error"]["code"] == INTERNAL_ERROR
    assert message["error"]["data"] == {"reason": "limit"}


@pytest.mark.parametrize(
    "data", [b'{"id":1,"method":"ping","params":[%b1]}', b"[%b1]", b'{"method":"x","params":[%b1]}']
)
def test_a_large_message_that_is_no_response_is_skipped(data: bytes) -> None:
    assert read_messages(data % VALUES, limit=100) == []
