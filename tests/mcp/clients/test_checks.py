"""The checks by themselves, on values that no client sends by accident."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.clients.checks import (
    MAX_VALUES,
    ProtocolRefusal,
    decoded,
    era_of,
    kind_of,
    malformed,
    modern_fault,
    negotiated,
    read,
    same_arguments,
)
from modelplex.mcp.clients.http_request import McpHeaders
from tests.mcp.clients.scripted import call, enveloped, request

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0"]) | values,
        "id": values,
        "method": st.sampled_from(["tools/call", "initialize"]) | values,
        "params": st.fixed_dictionaries({}, optional={"_meta": values, "name": values}) | values,
        "result": values,
        "error": values,
    },
)


@given(messages | values)
def test_every_json_value_has_a_kind_or_a_fault(value: Any) -> None:
    body = msgspec.json.encode(value)
    again = read(body, max_depth=64)
    assert not isinstance(again, ProtocolRefusal)
    kind = kind_of(again)
    if kind == "none":
        assert malformed(again).code == -32600
    if kind == "request":
        era_of(again)
        fault = modern_fault(McpHeaders(), again)
        assert fault is not None
        assert fault.status == 400
        msgspec.json.encode(fault.body())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read(data, max_depth=4)


@given(st.text(max_size=40))
def test_a_base64_header_is_decoded(text: str) -> None:
    payload = base64.b64encode(text.encode("utf-8", "replace")).decode()
    assert decoded(f"=?base64?{payload}?=") == text.encode("utf-8", "replace").decode()
    assert decoded(f"=?base64?{payload}\n?=") is None
    assert decoded(f"=?base64?{payload}=?=") is None


@pytest.mark.parametrize("payload", ["QQ", "QR==", "Q Q==", "_-8=", "/w=="])
def test_base64_that_is_not_canonical_or_no_text_is_refused(payload: str) -> None:
    assert decoded(f"=?base64?{payload}?=") is None


@pytest.mark.parametrize(("depth", "fits"), [(8, True), (9, False), (2000, False)])
def test_depth_is_counted_in_levels(depth: int, fits: bool) -> None:
    for body in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        found = read(body, max_depth=8)
        assert isinstance(found, ProtocolRefusal) != fits
    assert not isinstance(read(b'["' + b"[" * 100 + b'"]', max_depth=8), ProtocolRefusal)


@pytest.mark.parametrize(
    ("version", "message", "era"),
    [
        ("2026-07-28", request("initialize"), "modern"),
        ("2099-01-01", request("x"), "modern"),
        ("2025-06-18", request("x"), None),
        ("2025-06-18", enveloped(request("x")), "modern"),
        (None, request("initialize"), "legacy"),
        (None, enveloped(request("initialize")), "modern"),
        (None, request("x"), None),
    ],
)
def test_the_era_follows_from_header_meta_or_method(
    version: str | None, message: Any, era: str | None
) -> None:
    assert era_of(message, McpHeaders(versions=(version,) if version else ())) == era


@pytest.mark.parametrize(
    ("asked", "version"),
    [("2024-11-05", "2024-11-05"), ("2026-07-28", "2025-11-25"), (None, "2025-11-25"), (7, "2025-11-25")],
)
def test_a_version_is_echoed_or_the_newest_offered(asked: Any, version: str) -> None:
    assert negotiated({"protocolVersion": asked}) == version


def test_headers_are_compared_with_the_arguments_that_the_schema_annotates() -> None:
    schema: Any = {
        "properties": {
            "a": {"type": "string", "x-mcp-header": "A"},
            "b": {"properties": {"c": {"type": "integer", "x-mcp-header": "C"}}},
        }
    }
    head = McpHeaders(arguments=(("a", "x"), ("c", "3")))
    assert same_arguments(head, call("t", {"a": "x", "b": {"c": 3.0}}), schema) is None
    assert same_arguments(head, call("t", {"a": {"no": "header"}, "b": {"c": 3}}), schema) is None
    for arguments in ({"a": "y", "b": {"c": 3}}, {"a": "x", "b": {"c": 4}}, {"a": "x"}):
        fault = same_arguments(head, call("t", arguments), schema)
        assert fault is not None
        assert fault.code == -32020
    assert same_arguments(head, {"method": "tools/call", "params": {"arguments": 3}}, schema) is not None


def test_a_lone_surrogate_is_a_character_in_its_place() -> None:
    assert read(rb'{"a":"\ud83d","b":"\\ud83d"}', max_depth=4) == {"a": "\ufffd", "b": "\\ud83d"}
    assert read(bytearray(rb'["\udce9"]'), max_depth=4) == ["\ufffd"]
    for other in (rb'["\ud83d"', b'["\xff"]', b'["\xed\xa0\x80"]'):
        assert isinstance(read(other, max_depth=4), ProtocolRefusal)


def test_so_many_values_are_read_and_no_more() -> None:
    most = b"[" + b",".join([b"1"] * (MAX_VALUES - 1)) + b"]"
    assert not isinstance(read(most, max_depth=4), ProtocolRefusal)
    assert isinstance(read(most.replace(b"[", b"[1,1,"), max_depth=4), ProtocolRefusal)
