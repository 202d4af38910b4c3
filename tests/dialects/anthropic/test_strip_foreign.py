"""From Messages to other dialects and back: what Anthropic's client and the others' types say of
it.

A transcript of a request holds what each provider is sent and what was lost on the way;
`UPDATE_TRANSCRIPTS=1 pytest tests/dialects/anthropic/test_strip_foreign.py` writes what is sent
today: read the diff.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from anthropic.types import Message
from ollama._types import ChatRequest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from modelplex.core.errors import StatePinned, Unsupported
from modelplex.core.events import ResponseEnded, ResponseFailed, Usage, UsageReported
from modelplex.core.request import Attempt, ModelFacts, OpaqueState, ProviderRequest, Quirks, ReasoningPart
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.anthropic.strip_foreign import KNOWN
from modelplex.dialects.core.envelope import unwrap
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_chat.usage import read_usage, write_usage
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request
from tests.dialects.anthropic.peer import (
    HELLO,
    HOME,
    TRANSCRIPTS,
    accumulated,
    blocks,
    checked,
    make_call,
    read_provider,
    sent_home,
    told,
    whole,
    written,
)

REQUESTS = TRANSCRIPTS / "messages_requests"
UPDATE = bool(os.environ.get("UPDATE_TRANSCRIPTS"))
CHAT = sorted(path.parent.name for path in (TRANSCRIPTS / "openai_chat").glob("*/stream.sse"))
OLLAMA = sorted(
    path.parent.name
    for path in (TRANSCRIPTS / "ollama").glob("*/response.ndjson")
    if path.parent.name != "generate"
)
STREAMS = [
    *(("openai_chat", case, "stream.sse") for case in CHAT),
    *(("ollama", case, "response.ndjson") for case in OLLAMA),
]

_CHAT_BODY: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
_OPENROUTER = Attempt(
    "openrouter", "m", "openai_chat", account="k1", quirks=Quirks(reasoning_back="reasoning_details")
)


def _sent(call: Any, dialect: str, **quirks: Any) -> tuple[dict[str, Any], ProviderRequest]:
    """The body that a provider of this dialect gets, held to its official types."""
    attempt = Attempt(
        "acme", "m-up", dialect, account="k1", quirks=Quirks(**quirks), facts=ModelFacts(thinking="both")
    )
    sent = write_request(call, attempt)
    body: dict[str, Any] = json.loads(sent.body)
    if dialect == "ollama":
        ChatRequest.model_validate(body)
    else:
        hidden = {"stream", "reasoning_content", "reasoning_details", "top_k"}
        _CHAT_BODY.validate_python({name: value for name, value in body.items() if name not in hidden})
    return body, sent


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
@pytest.mark.parametrize("case", sorted(path.name for path in REQUESTS.iterdir()))
def test_a_request_is_told_to_another_provider_and_its_losses_are_named(case: str, dialect: str) -> None:
    asked = (REQUESTS / case / "request.json").read_bytes()
    call = anthropic.read_call(read_request(asked, endpoint="messages", dialect="anthropic_messages"))
    body, sent = _sent(call, dialect)
    found = {"body": body, "changes": [f"{c.op} {c.path}" for c in sent.changes]}
    file = REQUESTS / case / f"{dialect}.json"
    if UPDATE:
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert json.loads(file.read_text()) == found


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 100_000])
@pytest.mark.parametrize(("dialect", "case", "file"), STREAMS)
def test_every_stream_is_one_that_anthropics_client_takes(
    dialect: str, case: str, file: str, piece: int
) -> None:
    events = read_provider(dialect, (TRANSCRIPTS / dialect / case / file).read_bytes(), piece=piece)
    data = written(events)
    if isinstance(events[-1], ResponseFailed):
        assert told(data)[-1].event == "error"
        assert b"message_stop" not in data
        return
    checked(data)
    message = accumulated(data)
    answer = whole(events)
    assert blocks(message) == answer["content"]
    assert message.stop_reason == answer["stop_reason"]
    assert message.usage.model_dump(exclude_none=True) == answer["usage"]
    texts = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
    said = "".join(
        getattr(event, "text", "")
        for event in events
        if type(event).__name__ in {"TextDelta", "RefusalDelta"} and getattr(event, "choice", 0) == 0
    )
    assert texts == said


@pytest.mark.parametrize("case", ["text", "tools_parallel", "custom_tool", "parts_of_every_kind"])
def test_every_whole_answer_is_one_that_anthropics_client_takes(case: str) -> None:
    body = (TRANSCRIPTS / "openai_chat" / case / "response.json").read_bytes()
    attempt = Attempt("acme", "m-up", "openai_chat", account="k1")
    events = openai_chat.read_response(body, attempt, ProviderRequest(b"{}"))
    assert whole(events)["content"]


@pytest.mark.parametrize(("case", "reason"), [("tools_parallel", "tool_use"), ("refusal", "refusal")])
def test_the_reason_is_told_in_this_forms_words(case: str, reason: str) -> None:
    data = (TRANSCRIPTS / "openai_chat" / case / "stream.sse").read_bytes()
    assert accumulated(written(read_provider("openai_chat", data))).stop_reason == reason


def test_text_and_a_call_in_one_chunk_are_told_one_after_the_other() -> None:
    data = (TRANSCRIPTS / "openai_chat" / "vllm_text_and_tool_in_one_chunk" / "stream.sse").read_bytes()
    message = accumulated(written(read_provider("openai_chat", data)))
    kinds = [block["type"] for block in blocks(message) if block["type"] != "thinking"]
    assert kinds == ["text", "tool_use"]
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize(
    "case", ["thinking_text_two_tools", "redacted_thinking", "hosted_search_with_citations"]
)
def test_anthropics_own_answer_is_the_same_through_the_hub(case: str) -> None:
    folder = TRANSCRIPTS / "anthropic_messages" / case
    data = written(read_provider("anthropic_messages", (folder / "stream.sse").read_bytes(), attempt=HOME))
    checked(data)
    answer = json.loads((folder / "answer.json").read_bytes())
    assert blocks(accumulated(data)) == blocks(Message.model_validate(answer))
    events = anthropic.read_response((folder / "answer.json").read_bytes(), HOME, ProviderRequest(b"{}"))
    again = whole(events)
    assert {name: again[name] for name in answer} == answer


# --- round trips ----------------------------------------------------------------------------------


def test_usage_survives_two_dialects() -> None:
    first = Usage(fresh=12, cache_read=2000, cache_write=300, output=89, reasoning=40)
    data = written([ResponseEnded("stop"), UsageReported(first)])
    counted = accumulated(data).usage
    usage = read_usage(write_usage(first))
    assert usage is not None
    assert (usage.fresh, usage.cache_read, usage.cache_write, usage.output, usage.reasoning) == (
        counted.input_tokens,
        counted.cache_read_input_tokens,
        counted.cache_creation_input_tokens,
        counted.output_tokens,
        counted.output_tokens_details.thinking_tokens if counted.output_tokens_details else None,
    )
    assert usage.input == 2312
    assert accumulated(written([ResponseEnded("stop"), UsageReported(usage)])).usage == counted


def test_a_signature_from_a_chat_provider_goes_back_to_it_and_to_nobody_else() -> None:
    data = (TRANSCRIPTS / "openai_chat" / "openrouter_signed_reasoning" / "stream.sse").read_bytes()
    message = accumulated(written(read_provider("openai_chat", data, attempt=_OPENROUTER)))
    content = blocks(message)
    assert [block["type"] for block in content] == ["thinking", "redacted_thinking", "text"]
    state = unwrap(content[0]["signature"])
    assert state is not None
    assert (state.provider, state.data) == ("openrouter", "EqRkc2Fm+/==")
    call = make_call([*HELLO, {"role": "assistant", "content": content}, *HELLO])
    sent = json.loads(write_request(call, _OPENROUTER).body)
    assert sent["messages"][1]["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "Two plus two.",
            "signature": "EqRkc2Fm+/==",
            "format": "anthropic-claude-v1",
            "index": 0,
        },
        {
            "type": "reasoning.encrypted",
            "data": "Emwk\\n",
            "format": "anthropic-claude-v1",
            "id": "rs_1",
            "index": 1,
        },
    ]
    with pytest.raises(StatePinned):
        write_request(call, HOME)
    other = msgspec.structs.replace(_OPENROUTER, provider="acme")
    assert b"EqRkc2Fm" not in write_request(call, other).body


def test_a_signature_on_a_call_goes_back_on_that_call() -> None:
    attempt = Attempt("gemini", "gemini-3-pro", "openai_chat", account="g1")
    data = (TRANSCRIPTS / "openai_chat" / "gemini_signature_and_index_zero" / "stream.sse").read_bytes()
    content = blocks(accumulated(written(read_provider("openai_chat", data, attempt=attempt))))
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "rain"}
        for block in content
        if block["type"] == "tool_use"
    ]
    call = make_call(
        [*HELLO, {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    )
    calls = json.loads(write_request(call, attempt).body)["messages"][1]["tool_calls"]
    assert [(each["id"], each.get("extra_content")) for each in calls] == [
        ("f1", {"google": {"thought_signature": "CiQB+/=="}}),
        ("f2", None),
    ]


def test_reasoning_that_must_be_sent_back_is() -> None:
    data = (TRANSCRIPTS / "openai_chat" / "deepseek_reasoning_and_tool" / "stream.sse").read_bytes()
    message = accumulated(written(read_provider("openai_chat", data)))
    content = blocks(message)
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "rain"}
        for block in content
        if block["type"] == "tool_use"
    ]
    call = make_call(
        [*HELLO, {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    )
    body, _ = _sent(call, "openai_chat", reasoning_back="reasoning_content")
    thought = "".join(block["thinking"] for block in content if block["type"] == "thinking")
    assert thought
    assert body["messages"][1]["reasoning_content"] == thought


def test_a_signature_of_anthropics_own_stays_there() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
    answered = {"role": "assistant", "content": [thinking, {"type": "text", "text": "x"}]}
    call = make_call([*HELLO, answered, *HELLO])
    part = call.messages[1].parts[0]
    assert part == ReasoningPart("hm", OpaqueState("anthropic-claude-v1", "EqQB"))
    assert sent_home(call)[0]["messages"][1]["content"][0] == thinking
    for dialect in ("openai_chat", "ollama"):
        assert b"EqQB" not in _sent(call, dialect)[1].body


@pytest.mark.parametrize(
    "more",
    [
        {
            "tools": [{"type": "web_search_20250305", "name": "web_search"}],
            "tool_choice": {"type": "tool", "name": "web_search"},
        },
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f1"}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f1"}}]}
            ]
        },
    ],
)
@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_what_only_anthropic_has_is_refused_elsewhere(dialect: str, more: Mapping[str, Any]) -> None:
    with pytest.raises(Unsupported):
        _sent(make_call(**more), dialect)


# --- what is settled on leaving -------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_a_tool_that_claude_knows_by_its_type_is_told_as_the_function_that_it_is(dialect: str) -> None:
    tools = [{"type": kind, "name": known.name} for kind, known in KNOWN.items()]
    for tool in tools:
        body, sent = _sent(make_call(tools=[tool], tool_choice={"type": "auto"}), dialect)
        function = body["tools"][0]["function"]
        assert function["name"] == tool["name"]
        assert "command" in function["parameters"]["properties"]
        assert ("lower", "tools[0]") in [(change.op, change.path) for change in sent.changes]


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_a_screen_cannot_be_used_by_another_model(dialect: str) -> None:
    screen = {"type": "computer_20251124", "name": "computer", "display_width_px": 9, "display_height_px": 9}
    with pytest.raises(Unsupported):
        _sent(make_call(tools=[screen]), dialect)


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
@pytest.mark.parametrize("name", ["container", "thread"])
def test_state_that_is_kept_at_anthropic_is_refused_elsewhere(name: str, dialect: str) -> None:
    with pytest.raises(Unsupported) as caught:
        _sent(make_call(**{name: "id_1"}), dialect)
    assert caught.value.param == name
    assert _sent(make_call(**{name: None}), dialect)[1].changes == ()


def test_a_long_name_of_a_user_is_told_by_its_digest() -> None:
    first, second = "u" * 150, "u" * 149 + "v"
    names: list[str] = []
    for user in (first, second, first):
        body, sent = _sent(make_call(metadata={"user_id": user}), "openai_chat")
        assert [(change.op, change.path) for change in sent.changes] == [("clamp", "metadata.user_id")]
        names.append(body["user"])
    assert len(names[0]) == 64
    assert names[0] == names[2] != names[1]
    assert sent_home(make_call(metadata={"user_id": first}))[0]["metadata"] == {"user_id": first}


def test_members_that_change_nothing_are_no_loss() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    tool = {"name": "x", "input_schema": schema, "defer_loading": False}
    call = {"type": "tool_use", "id": "a", "name": "x", "input": {}, "caller": {"type": "direct"}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "ok"}
    messages = [*HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    for dialect in ("openai_chat", "ollama"):
        _, sent = _sent(make_call(messages, tools=[tool], mcp_servers=[]), dialect)
        assert sent.changes == ()


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "gemini", "ollama"])
def test_a_compacted_conversation_goes_on_at_another_provider(dialect: str) -> None:
    failed = {"type": "compaction", "content": None}
    call = make_call(
        [
            {"role": "user", "content": "before"},
            {
                "role": "assistant",
                "content": [{"type": "compaction", "content": "the sum"}, {"type": "text", "text": "so"}],
            },
            {"role": "user", "content": "on"},
            {"role": "assistant", "content": [failed, {"type": "text", "text": "and"}]},
            {"role": "user", "content": "end"},
        ],
        system="rules",
        context_management={"edits": [{"type": "compact_20260112"}]},
    )
    written = write_request(call, Attempt(provider="p", model="m", dialect=dialect))
    body = json.dumps(json.loads(written.body))
    assert "before" not in body
    for kept in ("rules", "the sum", "so", "on", "and", "end"):
        assert kept in body
    changes = [(change.op, change.path) for change in written.changes]
    assert ("lower", "messages[1].content[0]") in changes
    assert ("drop", "context_management") in changes
