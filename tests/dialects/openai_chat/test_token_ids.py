"""Token ids of chat responses, in the forms of vLLM, SGLang and llama.cpp."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.dialects.openai_chat import token_ids
from modelplex.dialects.openai_chat.token_ids import ChatTokens

HE: dict[str, Any] = {"token": "He", "logprob": -0.5, "bytes": None}
LLO: dict[str, Any] = {"token": "llo", "logprob": -0.5, "bytes": None}


def event(choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    first: dict[str, Any] = {"index": 0, "delta": {}}
    choices = [] if choice is None else [first | choice]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


VLLM = b"".join(
    (
        event({"delta": {"role": "assistant", "content": ""}}, prompt_token_ids=[1, 2, 3]),
        event({"token_ids": [7], "logprobs": {"content": [HE]}}),
        event({"token_ids": [8], "logprobs": {"content": [LLO]}}),
        event({"token_ids": [9], "logprobs": None, "finish_reason": "stop"}),
        event(usage={"prompt_tokens": 3}),
        b"data: [DONE]\n\n",
    )
)
KEPT: dict[str, Any] = {
    "prompt_token_ids": [1, 2, 3],
    "choices": [{"index": 0, "token_ids": [7, 8, 9], "logprobs": [HE, LLO]}],
}


def kept(reader: ChatTokens) -> Any:
    found = reader.kept()
    return None if found is None else json.loads(found)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    reader = ChatTokens()
    for start in range(0, len(VLLM), size):
        reader.feed(VLLM[start : start + size])
    assert kept(reader) == KEPT


def test_an_event_without_its_blank_line_counts() -> None:
    reader = ChatTokens()
    reader.feed(event({"token_ids": [7]}).rstrip(b"\n"))
    assert kept(reader) == {"choices": [{"index": 0, "token_ids": [7]}]}


def test_whole_responses() -> None:
    vllm, sglang, llama = ChatTokens(), ChatTokens(), ChatTokens()
    choice = {"index": 0, "token_ids": [7, 8, 9], "logprobs": {"content": [HE, LLO]}}
    vllm.whole(json.dumps({"prompt_token_ids": [1, 2, 3], "choices": [choice]}).encode())
    sglang.whole(json.dumps({"choices": [choice | {"prompt_token_ids": [1, 2, 3]}]}).encode())
    assert kept(vllm) == kept(sglang) == KEPT
    entries = [HE | {"id": 7}, LLO | {"id": 8}]
    llama.whole(json.dumps({"choices": [{"logprobs": {"content": entries}}]}).encode())
    assert kept(llama) == {"choices": [{"index": 0, "token_ids": [7, 8], "logprobs": entries}]}


def test_a_stream_that_came_complete() -> None:
    reader = ChatTokens()
    reader.whole(VLLM)
    assert kept(reader) == KEPT


def test_choices_are_kept_apart() -> None:
    reader = ChatTokens()
    for index, token in ((1, 5), (0, 6), (1, 7)):
        reader.feed(event({"index": index, "token_ids": [token]}))
    assert kept(reader)["choices"] == [{"index": 0, "token_ids": [6]}, {"index": 1, "token_ids": [5, 7]}]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"choices": [{"token_ids": "x"}]}', b'{"choices": null}']
)
def test_a_response_without_them_has_none(body: bytes) -> None:
    reader = ChatTokens()
    reader.whole(body)
    assert kept(reader) is None


def test_a_log_probability_that_is_no_number_in_json() -> None:
    reader = ChatTokens()
    reader.whole(b'{"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -Infinity}]}}]}')
    assert kept(reader)["choices"][0]["logprobs"] == [{"token": "a", "logprob": None}]


def test_more_than_is_kept_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_ids, "MAX_READ", 100)
    reader = ChatTokens()
    for token in range(10):
        reader.feed(event({"token_ids": [token]}))
    found = kept(reader)
    assert found["cut"]
    assert 0 < len(found["choices"][0]["token_ids"]) < 10
