"""Gemini requests, written for providers."""

import json
from typing import Any

import httpx2
import msgspec
import pytest

from modelplex.core.errors import BadRequest, StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    ChatRequest,
    DocumentPart,
    Effort,
    EmbeddingRequest,
    FileReference,
    ForeignPart,
    ImagePart,
    Message,
    ModelFacts,
    OpaqueState,
    Quirks,
    ReasoningOptions,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    UrlReference,
)
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.openai_chat.fields import FIELDS as CHAT_FIELDS
from tests.dialects.gemini.peer import (
    ATTEMPT,
    BUDGETED,
    chat_call,
    make_ask,
    make_call,
    model,
    official_client,
    sent,
    user,
)
from tests.dialects.sides import usual_paths, with_places

PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}


def _changes(written: Any) -> list[tuple[str, str]]:
    return [(change.op, change.path) for change in written.changes]


def test_a_call_of_this_dialect_is_written_as_it_was_read() -> None:
    contents = [
        user("Look", PICTURE),
        model(
            {"text": "Hm.", "thought": True, "thoughtSignature": "dGg="},
            {"text": "Well.", "thoughtSignature": "dHg="},
            {
                "functionCall": {"id": "a", "name": "9 lives", "args": {"x_y": 1.50}},
                "thoughtSignature": "Y2E=",
            },
            {"functionCall": {"id": "b", "name": "g", "args": {}}},
        ),
        user(
            {"functionResponse": {"id": "a", "name": "9 lives", "response": {"n": 1}}},
            {"functionResponse": {"id": "b", "name": "g", "response": {"output": "ok"}, "parts": [PICTURE]}},
        ),
        model(
            "Done",
            {"executableCode": {"code": "1", "language": "PYTHON"}},
            {"text": "", "thoughtSignature": "ZW4="},
        ),
        user("Thanks"),
    ]
    system = {"parts": [{"text": "S"}]}
    body, written = sent(make_call(*contents, systemInstruction=system))
    expected = [
        *contents[:3],
        model("Done", {"text": "", "thoughtSignature": "ZW4="}, contents[3]["parts"][1]),
        contents[4],
    ]
    assert body == {"contents": expected, "systemInstruction": system}
    assert written.changes == ()


# --- what providers are asked


def test_levels_and_budgets_are_asked_for_as_the_model_has_them() -> None:
    def config(attempt: Attempt, **asked: Any) -> Any:
        body, written = sent(_replaced(reasoning=ReasoningOptions(**asked)), attempt)
        thinking = body.get("generationConfig", {}).get("thinkingConfig", {})
        return thinking.get("thinkingLevel", thinking.get("thinkingBudget")), _changes(written)

    efforts: list[Effort] = ["minimal", "low", "medium", "high", "xhigh", "max"]
    levels = [config(ATTEMPT, effort=effort)[0] for effort in efforts]
    assert levels == ["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH", "XHIGH"]
    budgets = [config(BUDGETED, effort=effort)[0] for effort in efforts]
    assert budgets == [1024, 2048, 8192, 16384, 24576, 24576]
    assert config(BUDGETED, effort="none") == (0, [])
    assert config(BUDGETED, budget=3000) == (3000, [])
    assert config(BUDGETED, mode="adaptive") == (-1, [])
    assert config(ATTEMPT, effort="none") == ("MINIMAL", [("clamp", "reasoning_effort")])
    assert config(ATTEMPT, budget=9000) == ("MEDIUM", [("lower", "reasoning.max_tokens")])
    assert config(ATTEMPT, mode="adaptive") == (None, [])
    some = _with_facts(levels=("low", "high"))
    assert config(some, effort="medium") == ("LOW", [("clamp", "reasoning_effort")])
    assert config(some, effort="minimal") == ("LOW", [("clamp", "reasoning_effort")])
    assert config(some, effort="max") == ("HIGH", [("clamp", "reasoning_effort")])
    assert config(_with_facts(thinking="none"), effort="high") == (None, [("drop", "reasoning_effort")])


def _with_facts(**facts: Any) -> Attempt:
    known: dict[str, Any] = {"thinking": "adaptive", "can_disable_thinking": False, **facts}
    return msgspec.structs.replace(ATTEMPT, facts=ModelFacts(**known))


def _replaced(**more: Any) -> ChatRequest:
    call = chat_call([{"role": "user", "content": "Hi"}])
    return msgspec.structs.replace(call, paths=usual_paths(CHAT_FIELDS), **more)


def test_thoughts_are_shown_to_who_asks_for_thinking() -> None:
    def shown(**asked: Any) -> Any:
        body, _ = sent(_replaced(reasoning=ReasoningOptions(**asked)))
        return body["generationConfig"]["thinkingConfig"].get("includeThoughts")

    assert shown(effort="low") is True
    assert shown(effort="low", show="omitted") is False
    assert "generationConfig" not in sent(_replaced())[0]


def _assistant(*parts: Any) -> ChatRequest:
    hello = Message("user", (TextPart("Hi"),), path="messages[0]")
    answer = Message("assistant", parts, path="messages[1]")
    return with_places(
        ChatRequest(
            dialect="openai_chat",
            model="m",
            messages=(hello, answer, msgspec.structs.replace(hello, path="messages[2]")),
        )
    )


def test_a_signature_goes_back_on_the_text_that_it_sat_on_wherever_it_was_kept() -> None:
    on_text = ReasoningPart("", OpaqueState("google-gemini-v1", "dHg=", "google", "k1", id="text"))
    own = ReasoningPart("", OpaqueState("google-gemini-v1", "b3c=", "google", "k1", id="part"))
    for parts in ((on_text, TextPart("Four.")), (TextPart("Four."), on_text)):
        body, _ = sent(_assistant(*parts))
        assert body["contents"][1]["parts"] == [{"text": "Four.", "thoughtSignature": "dHg="}]
    for parts in ((own, TextPart("Four.")), (TextPart("Four."), own)):
        body, _ = sent(_assistant(*parts))
        assert body["contents"][1]["parts"] == [{"text": "Four."}, {"text": "", "thoughtSignature": "b3c="}]
    body, _ = sent(_assistant(own))
    assert body["contents"][1]["parts"] == [{"text": "", "thoughtSignature": "b3c="}]


def test_another_providers_sealed_state_never_leaves_for_this_one() -> None:
    for state in (
        OpaqueState("google-gemini-v1", "x", "elsewhere", "k1"),
        OpaqueState("google-gemini-v1", "x", "google", "k2"),
        OpaqueState("anthropic-claude-v1", "x", "anthropic", "k1"),
    ):
        with pytest.raises(StatePinned):
            sent(_assistant(ReasoningPart("t", state)))
        with pytest.raises(StatePinned):
            sent(_assistant(ToolCallPart("a", "f", "{}", state=state)))
    body, written = sent(
        _assistant(ReasoningPart("t", OpaqueState("unknown", "x")), ReasoningPart("plain"), TextPart("Hi"))
    )
    assert body["contents"][1]["parts"] == [{"text": "Hi"}]
    assert _changes(written) == [("drop", "messages[1].content[0]"), ("drop", "messages[1].content[1]")]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (DocumentPart(FileReference("file-1")), "kept elsewhere"),
        (ForeignPart("anthropic_messages", "search_result", msgspec.Raw(b"{}")), "no form"),
        (AudioPart("", "wav", id="audio_1"), "kept at another"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_place(part: Any, told: str) -> None:
    message = Message("user", (TextPart("x"), part), path="messages[0]")
    call = with_places(ChatRequest(dialect="openai_chat", model="m", messages=(message,)))
    with pytest.raises(Unsupported, match=told) as refused:
        sent(call)
    assert refused.value.param == "messages[0].content[1]"


@pytest.mark.parametrize(
    ("part", "sent_as"),
    [
        (ImagePart(UrlReference("https://e.org/a.png?x=1")), {"mimeType": "image/png"}),
        (ImagePart(UrlReference("https://e.org/a")), {}),
        (DocumentPart(UrlReference("https://e.org/A.PDF")), {"mimeType": "application/pdf"}),
    ],
)
def test_an_address_is_sent_to_be_fetched(part: Any, sent_as: dict[str, str]) -> None:
    """The policy refuses it of sealed callers before."""
    message = Message("user", (TextPart("x"), part), path="messages[0]")
    body, written = sent(with_places(ChatRequest(dialect="openai_chat", model="m", messages=(message,))))
    assert body["contents"][0]["parts"][1] == {"fileData": {"fileUri": part.source.url, **sent_as}}
    assert written.changes == ()


def test_calls_and_results_that_do_not_match_are_refused_by_their_ids() -> None:
    called = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    with pytest.raises(BadRequest, match="calls without a result: a"):
        sent(chat_call([{"role": "user", "content": "x"}, called, {"role": "user", "content": "y"}]))
    with pytest.raises(BadRequest, match="results without a call: b"):
        sent(
            chat_call(
                [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "b", "content": "y"}]
            )
        )


def test_fields_that_the_service_refuses_are_left_out_and_named() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, quirks=Quirks(refuses=("seed",)))
    body, written = sent(chat_call([{"role": "user", "content": "x"}], seed=1), attempt)
    assert "seed" not in body["generationConfig"]
    assert _changes(written) == [("drop", "seed")]


# --- vectors and counts


def test_embeddings_are_asked_for_in_one_batch() -> None:
    written = gemini.write_embedding(
        EmbeddingRequest(dialect="openai_embeddings", model="m", inputs=("a", "b"), dimensions=256), ATTEMPT
    )
    assert json.loads(written.body) == {
        "requests": [
            {
                "model": "models/gemini-3-pro",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 256,
            }
            for text in ("a", "b")
        ]
    }
    with pytest.raises(Unsupported):
        gemini.write_embedding(
            EmbeddingRequest(dialect="openai_embeddings", model="m", inputs=((1, 2),)), ATTEMPT
        )


def test_the_official_client_embeds_counts_and_lists() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(":countTokens"):
            call = gemini.read_counting(make_ask(request.content))
            assert call.messages[0].parts == (TextPart("Hi"),)
            return httpx2.Response(200, content=gemini.write_count(31))
        if request.url.path.endswith("/models"):
            return httpx2.Response(200, content=gemini.write_models(["a", "b/c"]))
        ask = make_ask(request.content)
        assert gemini.read_embedding(ask).inputs == ("Hi", "Ho")
        vectors = gemini.read_embedded(b'{"embeddings":[{"values":[1]},{"values":[2]}]}')
        return httpx2.Response(200, content=gemini.write_embedded(vectors, ask))

    client = official_client(answer)
    assert client.models.count_tokens(model="gemini-3-pro", contents="Hi").total_tokens == 31
    assert [found.name for found in client.models.list()] == ["models/a", "models/b/c"]
    embedded = client.models.embed_content(model="gemini-embedding-001", contents=["Hi", "Ho"])
    assert [vector.values for vector in embedded.embeddings or ()] == [[1.0], [2.0]]


def test_the_length_of_the_whole_request_is_asked_for() -> None:
    written = gemini.write_counting(
        chat_call([{"role": "system", "content": "S"}, {"role": "user", "content": "x"}]), ATTEMPT
    )
    assert json.loads(written.body) == {
        "generateContentRequest": {
            "model": "models/gemini-3-pro",
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "systemInstruction": {"parts": [{"text": "S"}]},
        }
    }
    whole = {
        "generateContentRequest": {"contents": [user("x")], "system_instruction": {"parts": [{"text": "S"}]}}
    }
    assert len(gemini.read_counting(make_ask(whole)).messages) == 2


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_a_model_that_takes_no_schema_beside_functions_is_asked_in_words(kind: str) -> None:
    """Gemini 2.5: "Function calling with a response mime type: '...' is unsupported"."""
    form: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        form["json_schema"] = {"name": "a", "schema": {"type": "object", "title": "Marked"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    asked = [{"role": "user", "content": "Hi"}]
    call = chat_call(asked, response_format=form, tools=[tool])
    old = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(schema_with_tools=False))
    written = gemini.write_call(call, old)
    body = json.loads(written.body)
    assert "responseMimeType" not in body.get("generationConfig", {})
    said = body["systemInstruction"]["parts"][-1]["text"]
    assert "JSON" in said
    assert ("Marked" in said) == (kind == "json_schema")
    assert ("lower", "response_format") in _changes(written)
    assert "responseMimeType" in json.loads(gemini.write_call(call, ATTEMPT).body)["generationConfig"]
    alone = gemini.write_call(chat_call(asked, response_format=form), old)
    assert "responseMimeType" in json.loads(alone.body)["generationConfig"]
