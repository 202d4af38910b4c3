"""The old text completions: asked, written, watched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion as OfficialCompletion

from modelplex.core.errors import BadRequest, Overloaded
from modelplex.core.events import (
    Event,
    PartEnded,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import CompletionRequest
from modelplex.dialects.openai_chat import completions
from tests.dialects.openai_chat.peer import chunks_of, make_ask, sse_bytes


def read(**body: Any) -> CompletionRequest:
    return completions.read_completion(make_ask({"model": "m", **body}, endpoint="completions"))


PROMPTS: list[tuple[Any, tuple[Any, ...]]] = [
    ("a", ("a",)),
    (["a", "b"], ("a", "b")),
    ([1, 2], ((1, 2),)),
    ([[1], [2, 3]], ((1,), (2, 3))),
]


@pytest.mark.parametrize(("given", "prompts"), PROMPTS)
def test_every_form_of_prompt_is_read(given: Any, prompts: tuple[Any, ...]) -> None:
    assert read(prompt=given).prompts == prompts


def test_a_request_is_read_whole() -> None:
    asked = read(
        prompt="a", n=2, stop="x", logprobs=3, echo=True, suffix="s", best_of=4, max_tokens=5, user="u"
    )
    assert (asked.sampling.n, asked.sampling.stop, asked.sampling.top_logprobs) == (2, ("x",), 3)
    assert (asked.echo, asked.suffix, asked.max_tokens) == (True, "s", 5)
    assert set(asked.extra) == {"best_of", "user"}


@pytest.mark.parametrize(
    ("prompt", "param"),
    [([], "prompt"), (["a", 1], "prompt[1]"), ({"a": 1}, "prompt"), ([1, "a"], "prompt[1]")],
)
def test_a_wrong_prompt_is_refused_with_its_place(prompt: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(prompt=prompt)
    assert caught.value.param == param


EVENTS: list[Event] = [
    ResponseStarted(id="x", model="up", created=3),
    TextDelta(0, "Hel"),
    TextDelta(1, "Other", choice=1),
    TextDelta(0, "lo"),
    PartEnded(0),
    UsageReported(Usage(fresh=2, output=3)),
    ResponseEnded("stop"),
    ResponseEnded("length", choice=1),
]


def test_a_stream_is_of_official_chunks_and_its_texts_add_up() -> None:
    for counted in (True, False):
        asked = read(prompt="a", stream=True, stream_options={"include_usage": counted})
        writer = completions.CompletionWriter(asked, id="i", created=1, model="m")
        stream = b"".join(writer.send(event) for event in EVENTS) + writer.end()
        assert stream.endswith(b"data: [DONE]\n\n")
        texts, ends = ["", ""], ["", ""]
        usages: list[Any] = []
        for each in chunks_of(stream):
            assert (each["id"], each["object"], each["created"], each["model"]) == (
                "x",
                "text_completion",
                3,
                "up",
            )
            usages.append(each.get("usage", "none"))
            for choice in each["choices"]:
                texts[choice["index"]] += choice["text"]
                ends[choice["index"]] += choice["finish_reason"] or ""
        assert (texts, ends) == (["Hello", "Other"], ["stop", "length"])
        if counted:
            assert usages[:-1] == [None] * (len(usages) - 1)
            assert usages[-1]["total_tokens"] == 5
        else:
            assert set(usages) == {"none"}


def test_a_whole_answer_is_an_official_one() -> None:
    body, changes = completions.write_response(EVENTS, read(prompt="a"), id="i", created=1, model="m")
    answer = OfficialCompletion.model_validate(json.loads(body))
    assert [(c.index, c.text, c.finish_reason) for c in answer.choices] == [
        (0, "Hello", "stop"),
        (1, "Other", "length"),
    ]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2
    assert changes == []


def test_what_is_no_text_is_named_as_lost() -> None:
    events: list[Event] = [ToolCallStarted(0, "a", "f"), TextDelta(1, "x"), ResponseEnded("tool_calls")]
    body, changes = completions.write_response(events, read(prompt="a"), id="i", created=1, model="m")
    assert json.loads(body)["choices"][0]["finish_reason"] == "stop"
    assert [change.op for change in changes] == ["drop"]


def test_a_broken_answer_ends_with_an_error_and_nothing_more() -> None:
    asked = read(prompt="a", stream=True)
    writer = completions.CompletionWriter(asked, id="i", created=1, model="m")
    assert b'"error"' in writer.send(ResponseFailed(Overloaded("Busy.")))
    assert (writer.send(TextDelta(0, "a")), writer.end()) == (b"", b"")
    unended = completions.CompletionWriter(asked, id="i", created=1, model="m")
    unended.send(TextDelta(0, "a"))
    assert b'"error"' in unended.end()
    with pytest.raises(Overloaded):
        completions.write_response([ResponseFailed(Overloaded("Busy."))], asked, id="i", created=1, model="m")
    assert unended.ping() == b": ping\n\n"


def test_a_stream_of_texts_passes_and_is_seen() -> None:
    stream = sse_bytes(
        {"id": "x", "model": "m", "choices": [{"index": 0, "text": "a", "finish_reason": None}]},
        {"id": "x", "model": "m", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
        "[DONE]",
    )
    looking = completions.observer(make_ask({"model": "m", "stream": True}), withhold_usage=False)
    assert looking.feed(stream) + looking.end() == stream
    assert (looking.has_output, looking.failed, looking.observed.finish) == (True, None, "stop")
    whole = b'{"model":"m","choices":[{"index":0,"text":"a","finish_reason":"stop"}]}'
    assert completions.observe(whole).error is None
