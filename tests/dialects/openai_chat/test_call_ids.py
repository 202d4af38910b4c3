"""Ids of calls in the form that the service takes."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from modelplex.core.request import Attempt, Quirks
from modelplex.dialects.openai_chat.call_ids import amended_ids, sent_id
from modelplex.dialects.registry import write_request
from tests.dialects.anthropic.peer import make_call

NINE = Quirks(call_ids="nine")
LONG = "call_" + "x" * 90
CLAUDES = "toolu_01AbCdEfGhIjKlMnOpQrStUv"


@pytest.mark.parametrize("given", [CLAUDES, LONG, "call_1", ""])
def test_mistral_gets_nine_letters_and_digits(given: str) -> None:
    assert re.fullmatch("[a-zA-Z0-9]{9}", sent_id(given, NINE, native=False))
    assert sent_id(given, NINE, native=True) == sent_id(given, NINE, native=False)
    assert sent_id("aB3dE5gH9", NINE, native=False) == "aB3dE5gH9"
    assert sent_id("call_1", NINE, native=False) != sent_id("call_2", NINE, native=False)


def test_a_long_id_is_cut_but_for_clients_of_the_form() -> None:
    assert len(sent_id(LONG, Quirks(), native=False)) <= 64
    assert sent_id(LONG, Quirks(), native=True) == LONG
    assert sent_id(CLAUDES, Quirks(), native=False) == CLAUDES


def test_call_and_result_agree_and_the_change_is_reported() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": CLAUDES, "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": CLAUDES, "content": "ok"}]},
    ]
    call = make_call(messages, max_tokens=9)
    written = write_request(call, Attempt("acme", "m-up", "openai_chat", quirks=NINE))
    sent = msgspec.json.decode(written.body)["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] != CLAUDES
    assert [change.path for change in written.changes if change.op == "rename"] == [
        "messages[1].content[0].id"
    ]


def test_the_ids_of_a_body_that_passes_are_changed_where_they_must_be() -> None:
    function = {"name": "f", "arguments": "{}"}
    messages = [
        {"role": "assistant", "tool_calls": [{"id": LONG, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": LONG, "content": "ok"},
    ]
    fields = {"messages": msgspec.Raw(msgspec.json.encode(messages))}
    amended = amended_ids(fields, NINE)
    assert amended is not None
    sent = msgspec.json.decode(amended[0])
    assert sent[0]["tool_calls"][0]["id"] == sent[1]["tool_call_id"] == sent_id(LONG, NINE, native=True)
    assert sent[0]["tool_calls"][0]["function"] == function
    assert [change.path for change in amended[1]] == [
        "messages[0].tool_calls[0].id",
        "messages[1].tool_call_id",
    ]
    assert amended_ids({"messages": amended[0]}, NINE) is None
    assert amended_ids(fields, Quirks()) is None
    assert amended_ids({"messages": msgspec.Raw(b'[{"tool_calls":3}]')}, NINE) is None
