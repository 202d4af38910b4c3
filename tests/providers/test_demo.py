"""The demo's answers, read with the official client's own types."""

import base64
import json
import math
import struct
from itertools import product
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from modelplex.core.errors import BadRequest
from modelplex.core.request import Endpoint, RawRequest
from modelplex.pipeline import demo as written
from modelplex.providers import demo

CREATED = 1_790_000_000

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}},
                    "required": ["city", "zip"],
                },
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "number"},
            },
            "required": ["place", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
SHELL = {"type": "custom", "custom": {"name": "shell"}}
WEATHER_ARGUMENTS = {"place": {"city": "demo", "zip": 1}, "unit": "celsius"}


DIALECT_OF: dict[Endpoint, str] = {
    "chat/completions": "openai_chat",
    "completions": "openai_completions",
    "embeddings": "openai_embeddings",
    "moderations": "openai_json",
}


def _ask(endpoint: Endpoint, body: dict[str, Any] | bytes) -> RawRequest:
    raw = body if isinstance(body, bytes) else json.dumps({"model": "demo", **body}).encode()
    return RawRequest(endpoint=endpoint, dialect=DIALECT_OF[endpoint], model="demo", body=raw, fields={})


def _said(*messages: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    told = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return {"messages": told, **more}


def _chat(*messages: str | dict[str, Any], **more: Any) -> ChatCompletion:
    status, body = written.answer(_ask("chat/completions", _said(*messages, **more)), created=CREATED)
    assert status == 200, body
    return ChatCompletion.model_validate_json(body, strict=True)


def _text(*messages: str | dict[str, Any], **more: Any) -> str:
    text = _chat(*messages, **more).choices[0].message.content
    assert text is not None
    return text


def _calls(*messages: str | dict[str, Any], **more: Any) -> list[tuple[str, Any]]:
    answer = _chat(*messages, **more).choices[0]
    calls = answer.message.tool_calls or []
    assert (answer.finish_reason == "tool_calls") == bool(calls)
    assert (answer.message.content is None) == bool(calls)
    return [
        (call.function.name, json.loads(call.function.arguments))
        if call.type == "function"
        else (call.custom.name, call.custom.input)
        for call in calls
    ]


def _events(endpoint: Endpoint, body: dict[str, Any]) -> list[dict[str, Any]]:
    pieces = written.stream(_ask(endpoint, body), created=CREATED)
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)
    *events, done, rest = b"".join(pieces).split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    for event in events:
        assert event.startswith(b"data: ")
        assert b"\n" not in event
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


# --- chat


def test_it_says_what_it_is_and_what_it_was_told() -> None:
    assert _text("Hello there") == f'{demo.INTRODUCTION} You said: "Hello there"'
    assert "no real model" in demo.INTRODUCTION


def test_the_same_body_gets_the_same_answer_and_another_body_another_id() -> None:
    body = _said("Hi")
    one, two = (written.answer(_ask("chat/completions", body), created=CREATED) for _ in range(2))
    assert one == two
    assert _chat("Hi").id != _chat("Ho").id
    assert _chat("Hi").created == CREATED


def test_the_answer_has_the_keys_that_strict_clients_want() -> None:
    _, body = written.answer(_ask("chat/completions", _said("Hi")), created=CREATED)
    (choice,) = json.loads(body)["choices"]
    assert choice["logprobs"] is None
    assert choice["message"]["refusal"] is None


def test_parts_are_read_and_what_is_no_text_is_named() -> None:
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
    ]
    assert _text({"role": "user", "content": parts}).endswith('You said: "Look" With it came: image_url.')


def test_the_last_user_message_is_the_one_that_is_quoted() -> None:
    text = _text(
        "one", {"role": "assistant", "content": "two"}, "three", {"role": "assistant", "content": "I"}
    )
    assert text.endswith('"three"')
    assert _text({"role": "system", "content": "Be kind"}).endswith("You said nothing.")


def test_long_words_are_quoted_only_so_far() -> None:
    assert len(_text("x" * 100_000)) < demo.MAX_QUOTED + 200


def test_usage_is_counted_in_words_and_says_that_it_is() -> None:
    usage = _chat("one two, three").usage
    assert usage is not None
    assert usage.prompt_tokens == 4
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.model_extra == {"estimated": True}


def test_several_choices_are_told_apart() -> None:
    texts = [choice.message.content or "" for choice in _chat("Hi", n=3).choices]
    assert len(set(texts)) == 3
    assert texts[2].endswith("(Answer 3 of 3.)")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_cuts_the_answer_and_says_so(name: str) -> None:
    answer = _chat("Hi", **{name: 3})
    assert answer.choices[0].message.content == "This is Modelplex"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("stop", ["demo model", ["never", "demo model", "no real"]])
def test_a_stop_sequence_ends_the_answer_before_it(stop: object) -> None:
    answer = _chat("Hi", stop=stop)
    assert answer.choices[0].message.content == "This is Modelplex's built-in "
    assert answer.choices[0].finish_reason == "stop"


# --- tools


@pytest.mark.parametrize(
    "words",
    [
        "use the tool",
        "Please USE A TOOL now",
        "call the tool!",
        "What does get_weather say?",
        "get weather in Bern",
        "run tool",
        "Get-Weather",
    ],
)
def test_a_tool_is_called_when_the_last_message_asks_for_it(words: str) -> None:
    assert _calls(words, tools=[WEATHER, CLOCK]) == [("get_weather", WEATHER_ARGUMENTS)]


@pytest.mark.parametrize("name", ["get_weather", "getWeather", "get_current_weather", "lookup_weather"])
def test_a_question_calls_the_tool_that_tells_the_answer(name: str) -> None:
    """What compliance suites ask, such as that of Open Responses: "tool-calling"."""
    tool = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    assert _calls("What's the weather like in San Francisco?", tools=[CLOCK, tool]) == [(name, {})]


@pytest.mark.parametrize("name", ["write_file", "get", "get_", "getter", "forecast"])
def test_a_question_calls_no_other_tool(name: str) -> None:
    tool = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    assert _calls("Will you write a poem about a file and what to do to it?", tools=[tool]) == []


@pytest.mark.parametrize("words", ["Hello", "I have a toolbox", "forget weathering", "tool", "the clockwork"])
def test_no_tool_is_called_when_nobody_asks_for_it(words: str) -> None:
    assert _calls(words, tools=[WEATHER, CLOCK]) == []


def test_every_tool_that_is_named_is_called_unless_only_one_may_be() -> None:
    both: list[tuple[str, Any]] = [("get_weather", WEATHER_ARGUMENTS), ("clock", {})]
    assert _calls("get_weather and clock", tools=[WEATHER, CLOCK]) == both
    assert _calls("use the tools", tools=[WEATHER, CLOCK]) == both
    assert _calls("get_weather and clock", tools=[WEATHER, CLOCK], parallel_tool_calls=False) == both[:1]


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("required", ["get_weather"]),
        ({"type": "function", "function": {"name": "clock"}}, ["clock"]),
        ({"type": "custom", "custom": {"name": "shell"}}, ["shell"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK]}}, ["clock"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CLOCK]}}, []),
        ("auto", []),
        ("none", []),
    ],
)
def test_a_choice_decides_which_tool_is_called(choice: object, called: list[str]) -> None:
    calls = _calls("Hello", tools=[WEATHER, CLOCK, SHELL], tool_choice=choice)
    assert [name for name, _ in calls] == called


def test_no_tool_is_called_where_the_choice_is_none_even_if_the_words_ask_for_it() -> None:
    assert _calls("use the tool", tools=[WEATHER], tool_choice="none") == []


def test_a_free_form_tool_gets_text() -> None:
    assert _calls("shell", tools=[SHELL]) == [("shell", "demo")]


def test_ids_of_calls_differ_within_an_answer_and_between_turns() -> None:
    first = _chat("use the tools", tools=[WEATHER, CLOCK], n=2)
    second = _chat("use the tools!", tools=[WEATHER, CLOCK])
    ids = [
        call.id
        for answer in (first, second)
        for choice in answer.choices
        for call in choice.message.tool_calls or []
    ]
    assert len(ids) == len(set(ids)) == 6


def test_a_tools_result_is_quoted_with_the_tools_name() -> None:
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "use the tools"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
                {"id": "b", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "a.txt"}]},
    ]
    text = _text(*history, tools=[WEATHER, SHELL])
    assert text == f'{demo.INTRODUCTION} The tool get_weather gave: "sunny" The tool shell gave: "a.txt"'


def test_a_limit_within_arguments_is_a_cut_and_no_call() -> None:
    (choice,) = _chat("use the tool", tools=[WEATHER], max_tokens=4).choices
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].type == "function"
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice.message.tool_calls[0].function.arguments)


# --- form


def test_any_json_is_an_object_with_the_message_in_it() -> None:
    told = json.loads(_text("Hi", response_format={"type": "json_object"}))
    assert told == {"demo": True, "message": f'{demo.INTRODUCTION} You said: "Hi"'}


def test_a_schema_is_met() -> None:
    schema = {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 2},
            "answer": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "kind": {"const": "sum"},
        },
        "required": ["steps", "answer", "kind"],
        "additionalProperties": False,
        "$defs": {
            "step": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "op": {"enum": ["+", "-"]}},
                "required": ["n", "op"],
            }
        },
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema, "strict": True}}
    step = {"n": 1, "op": "+"}
    assert json.loads(_text("Hi", response_format=wanted)) == {
        "steps": [step, step],
        "answer": None,
        "kind": "sum",
    }


def test_plain_text_may_be_asked_for() -> None:
    assert _text("Hi", response_format={"type": "text"}).startswith(demo.INTRODUCTION)


# --- streams

ASKED: list[dict[str, Any]] = [
    _said("Hello, wörld  👋\n"),
    _said("Hi", n=2),
    _said("Hi", max_tokens=5),
    _said("Hi", stop="model"),
    _said("Hi", response_format={"type": "json_object"}),
    _said("use the tools", tools=[WEATHER, CLOCK]),
    _said("use the tools", tools=[WEATHER, CLOCK], max_tokens=20, n=2),
]


@pytest.mark.parametrize(("asked", "with_usage"), list(product(ASKED, [True, False])))
def test_a_stream_adds_up_to_the_whole_answer(asked: dict[str, Any], *, with_usage: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if with_usage else {}
    body = {**asked, **options}
    chunks = _events("chat/completions", body)
    read = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    _, answer = written.answer(_ask("chat/completions", body), created=CREATED)
    whole = json.loads(answer)
    assert {(chunk.id, chunk.created, chunk.model) for chunk in read} == {
        (whole["id"], whole["created"], whole["model"])
    }
    if with_usage:
        assert chunks[-1]["choices"] == []
        assert chunks.pop()["usage"] == whole["usage"]
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    assert _added_up(chunks) == whole["choices"]


def test_a_streamed_call_of_a_free_form_tool_adds_up() -> None:
    """By itself, since the client's types of chunks know functions only."""
    body = _said("shell and clock", tools=[CLOCK, SHELL])
    (choice,) = _added_up(_events("chat/completions", body))
    kinds = [(call["type"], call[call["type"]]["name"]) for call in choice["message"]["tool_calls"]]
    assert kinds == [("function", "clock"), ("custom", "shell")]
    assert choice["message"]["tool_calls"][1]["custom"]["input"] == "demo"


def _added_up(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices as a client puts them together; a role, an id or a name that came twice would
    show.
    """
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        (part,) = chunk["choices"]
        empty = {"role": "", "content": None, "refusal": None}
        choice = choices.setdefault(
            part["index"], {"index": part["index"], "message": empty, "logprobs": None, "finish_reason": None}
        )
        assert choice["finish_reason"] is None, "nothing follows the end"
        choice["finish_reason"] = part["finish_reason"]
        message, delta = choice["message"], part["delta"]
        message["role"] += delta.get("role", "")
        if delta.get("content"):
            message["content"] = (message["content"] or "") + delta["content"]
        for call in delta.get("tool_calls", []):
            calls = message.setdefault("tool_calls", [])
            if call["index"] == len(calls):
                calls.append({"id": call["id"], "type": call["type"]})
            made = calls[call["index"]]
            for kind in ("function", "custom"):
                for name, text in call.get(kind, {}).items():
                    inner = made.setdefault(kind, {})
                    inner[name] = inner.get(name, "") + text
    return list(choices.values())


# --- completions


def _completion(**body: Any) -> Completion:
    status, answer = written.answer(_ask("completions", body), created=CREATED)
    assert status == 200, answer
    return Completion.model_validate_json(answer, strict=True)


def test_a_prompt_is_continued() -> None:
    answer = _completion(prompt="Once")
    assert answer.choices[0].text == f' {demo.INTRODUCTION} The prompt was: "Once"'
    assert answer.choices[0].finish_reason == "stop"


def test_prompts_of_all_forms_are_answered_in_order() -> None:
    texts = [choice.text for choice in _completion(prompt=["a", "b"], n=2).choices]
    assert [text[-3:] for text in texts] == ['"a"', '"a"', '"b"', '"b"']
    assert _completion(prompt=[1, 2]).choices[0].text.endswith('"1 2"')
    assert [c.text[-4:] for c in _completion(prompt=[[1], [22]]).choices] == [' "1"', '"22"']


def test_a_prompt_is_echoed_and_cut_as_asked() -> None:
    (choice,) = _completion(prompt="Once", echo=True, max_tokens=2).choices
    assert choice.text == "Once This is"
    assert choice.finish_reason == "length"


def test_a_streamed_completion_adds_up_to_the_whole() -> None:
    body: dict[str, Any] = {"prompt": ["a", "b"], "max_tokens": 4, "stream_options": {"include_usage": True}}
    chunks = _events("completions", body)
    for chunk in chunks:
        # The service's own chunks have a null here until the end, which the client's type does not
        # say.
        ended = [
            {**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]
        ]
        Completion.model_validate({**chunk, "choices": ended})
    whole = _completion(**body)
    usage = chunks.pop()["usage"]
    assert whole.usage is not None
    assert usage["completion_tokens"] == whole.usage.completion_tokens == 8
    for choice in whole.choices:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice.index]
        assert "".join(part["text"] for part in own) == choice.text
        assert [part["finish_reason"] for part in own if part["finish_reason"]] == [choice.finish_reason]


# --- embeddings


def _embedded(**body: Any) -> CreateEmbeddingResponse:
    status, answer = written.answer(_ask("embeddings", body), created=CREATED)
    assert status == 200, answer
    return CreateEmbeddingResponse.model_validate_json(answer)


def _vectors(**body: Any) -> list[list[float]]:
    return [item.embedding for item in _embedded(**body).data]


def test_vectors_have_length_one_and_are_the_same_each_time() -> None:
    (vector,) = _vectors(input="a cat sat")
    assert len(vector) == demo.DIMENSIONS
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-6)
    assert _vectors(input="a cat sat") == [vector]


@pytest.mark.parametrize("text", ["", " ", "!?", "a", "a b", "日本"])
@pytest.mark.parametrize("length", [1, 2, 3, 4096])
def test_every_text_has_a_vector_of_the_length_asked_for(text: str, length: int) -> None:
    (vector,) = _vectors(input=text, dimensions=length)
    assert len(vector) == length
    assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-6)


def test_texts_with_common_words_are_nearer_to_each_other() -> None:
    cat, kitten, tax = _vectors(
        input=["the cat sat on the mat", "a cat sat on a mat", "income tax is due in spring"]
    )
    assert _cosine(cat, kitten) > 0.4 > _cosine(cat, tax)


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_base64_holds_the_same_numbers() -> None:
    body = {"input": ["a", "b"], "dimensions": 8}
    _, answer = written.answer(_ask("embeddings", {**body, "encoding_format": "base64"}), created=CREATED)
    packed = [item["embedding"] for item in json.loads(answer)["data"]]
    assert [list(struct.unpack("<8f", base64.b64decode(text))) for text in packed] == _vectors(**body)


def test_order_and_usage_are_kept() -> None:
    answer = _embedded(input=["one", "two three"])
    assert [item.index for item in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("demo-embed", 3, 3)
    assert len(_vectors(input=[[1, 2], [3]])) == 2
    assert len(_vectors(input=[1, 2])) == 1


# --- nonsense


@pytest.mark.parametrize(
    "text", ["use" + " " * 300_000, "use the " * 100_000, "\n" * 300_000, "x" * 1_000_000]
)
def test_long_and_odd_texts_take_no_longer_than_their_length(text: str) -> None:
    """Time by the square of these lengths would be minutes, which the bound on every test does not
    allow.
    """
    for endpoint, body in (
        ("chat/completions", _said(text, tools=[CLOCK], stop="never", max_tokens=5)),
        ("embeddings", {"input": text}),
    ):
        assert written.answer(_ask(endpoint, body), created=CREATED)[0] == 200  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        ("chat/completions", b"{", None),
        ("chat/completions", b"[]", None),
        ("chat/completions", b"\xff", None),
        ("chat/completions", b"[" * 100_000, None),
        ("chat/completions", {}, None),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": "Hi"}, "messages"),
        ("chat/completions", {"messages": [{"role": "king", "content": "Hi"}]}, "messages[0].role"),
        ("chat/completions", _said("Hi", n=0), "n"),
        ("chat/completions", _said("Hi", n=1000), "n"),
        ("chat/completions", _said("Hi", max_tokens=0), "max_tokens"),
        ("chat/completions", _said("Hi", tools=[{"type": "function"}], tool_choice="required"), "tools"),
        ("chat/completions", _said("Hi", tool_choice="required"), "tool_choice"),
        ("chat/completions", _said("Hi", tools=[CLOCK], tool_choice={"type": "function"}), "tool_choice"),
        (
            "chat/completions",
            _said("Hi", tools=[CLOCK], tool_choice={"type": "function", "function": {"name": "x"}}),
            "tool_choice",
        ),
        (
            "chat/completions",
            _said("f", tools=[{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}]),
            "tools",
        ),
        ("chat/completions", _said("Hi", response_format={"type": "json_schema"}), "response_format"),
        (
            "chat/completions",
            _said("Hi", response_format={"type": "json_schema", "json_schema": {"schema": False}}),
            "response_format.json_schema.schema",
        ),
        ("completions", {"prompt": [1, "a"]}, "prompt"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("embeddings", {"input": "a", "dimensions": 10**9}, "dimensions"),
        ("moderations", {"input": "a"}, None),
    ],
)
def test_nonsense_gets_openais_error_with_the_field_at_fault(
    endpoint: Endpoint, body: dict[str, Any] | bytes, param: str | None
) -> None:
    status, answer = written.answer(_ask(endpoint, body), created=CREATED)
    error = json.loads(answer)["error"]
    assert status == 400
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]
    with pytest.raises(BadRequest):
        written.stream(_ask(endpoint, body), created=CREATED)
