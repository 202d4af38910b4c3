"""Messages requests, read: as agents write them, wrong ones, and back to Anthropic unchanged."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    CacheBreakpoint,
    DocumentPart,
    FileReference,
    ForeignPart,
    HostedTool,
    ImagePart,
    InlineData,
    OpaqueState,
    PlainText,
    ReasoningOptions,
    ReasoningPart,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.parsed_request import holds_envelopes
from modelplex.dialects.registry import write_request
from tests.dialects.anthropic.peer import HELLO, HOME, make_ask, make_call, sent_home

PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
MARK = {"type": "ephemeral", "ttl": "1h"}

AGENT: dict[str, Any] = {
    "system": [
        {"type": "text", "text": "You are an agent."},
        {"type": "text", "text": "Rules.", "cache_control": MARK},
    ],
    "messages": [
        {"role": "user", "content": "Look"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "EmwK"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "boom"}, {"type": "image", "source": PNG}],
                    "is_error": True,
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [{"type": "text", "text": "done"}],
                    "cache_control": {"type": "ephemeral"},
                },
                {"type": "text", "text": "Go on"},
            ],
        },
    ],
    "tools": [
        {"name": "Bash", "description": "Runs", "input_schema": {"type": "object"}, "strict": True},
        {
            "name": "Read",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": MARK,
            "defer_loading": True,
        },
        {"type": "bash_20250124", "name": "bash"},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "high", "task_budget": {"type": "tokens", "total": 5000}},
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "metadata": {"user_id": "u1"},
    "service_tier": "standard_only",
    "stop_sequences": ["END"],
    "stream": True,
}


def _parts(*content: Any, role: str = "user") -> tuple[Any, ...]:
    return make_call([{"role": role, "content": list(content)}]).messages[0].parts


def test_an_agents_request_is_understood_whole() -> None:
    call = make_call(**AGENT)
    system, asked, said, results, more = call.messages
    assert [message.role for message in call.messages] == ["system", "user", "assistant", "tool", "user"]
    assert system.parts[1] == TextPart("Rules.", CacheBreakpoint("1h"))
    assert asked.parts == (TextPart("Look"),)
    assert said.parts == (
        ReasoningPart("hm", OpaqueState("anthropic-claude-v1", "EqQB")),
        ReasoningPart("", OpaqueState("anthropic-claude-v1", "EmwK"), redacted=True),
        TextPart("I look."),
        ToolCallPart("toolu_1", "Bash", '{"command": "ls"}'),
        ToolCallPart("toolu_2", "Read", "{}"),
    )
    assert results.parts == (
        ToolResultPart(
            "toolu_1", (TextPart("boom"), ImagePart(InlineData("image/png", "aGk="))), is_error=True
        ),
        ToolResultPart("toolu_2", (TextPart("done"),), cache=CacheBreakpoint()),
    )
    assert more.parts == (TextPart("Go on"),)
    bash, read, shell, search = call.tools
    assert isinstance(bash, Tool)
    assert (bash.name, bash.description, bash.strict) == ("Bash", "Runs", True)
    assert isinstance(read, Tool)
    assert (read.cache, read.deferred, read.extra) == (CacheBreakpoint("1h"), True, {})
    assert [tool.type for tool in (shell, search) if isinstance(tool, HostedTool)] == [
        "bash_20250124",
        "web_search_20250305",
    ]
    assert (call.choice, call.parallel) == (ToolChoice("auto"), False)
    assert call.reasoning == ReasoningOptions(effort="high", mode="adaptive", show="summarized")
    assert (call.user, call.tier, call.sampling.stop, call.stream) == ("u1", "standard_only", ("END",), True)
    assert set(call.extra) == {"context_management", "output_config.task_budget"}


def test_the_same_request_goes_back_to_anthropic_with_nothing_lost() -> None:
    body, written = sent_home(make_call(**AGENT))
    assert written.changes == ()
    asked: dict[str, Any] = AGENT | {"model": "claude-sonnet-4-5", "max_tokens": 1000}
    asked["messages"] = [
        {"role": "user", "content": [{"type": "text", "text": "Look"}]},
        *AGENT["messages"][1:],
    ]
    assert body == asked


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image", "source": PNG}, ImagePart(InlineData("image/png", "aGk="))),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
            ImagePart(UrlReference("https://x/y")),
        ),
        ({"type": "image", "source": {"type": "file", "file_id": "f1"}}, ImagePart(FileReference("f1"))),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                "title": "T",
                "context": "C",
                "citations": {"enabled": True},
                "cache_control": MARK,
            },
            DocumentPart(
                InlineData("application/pdf", "aGk="),
                title="T",
                context="C",
                citations=True,
                cache=CacheBreakpoint("1h"),
            ),
        ),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}},
            DocumentPart(PlainText("abc")),
        ),
        (
            {"type": "document", "source": {"type": "content", "content": "abc"}},
            DocumentPart(PlainText("abc")),
        ),
        (
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            },
            DocumentPart(PlainText("a\n\nb")),
        ),
        (
            {
                "type": "search_result",
                "source": "https://x",
                "title": "T",
                "content": [{"type": "text", "text": "a"}],
                "citations": {"enabled": True},
            },
            SearchResultPart("https://x", "T", ("a",), citations=True),
        ),
    ],
)
def test_each_block_becomes_its_part(block: dict[str, Any], part: object) -> None:
    assert _parts(block) == (part,)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "container_upload", "file_id": "f1"},
        {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": PNG}]}},
        {"type": "block_of_tomorrow", "x": 1},
    ],
)
def test_a_block_that_only_this_form_has_rides_along_unread(block: dict[str, Any]) -> None:
    (part,) = _parts(block)
    assert isinstance(part, ForeignPart)
    assert part.type == block["type"]
    body, _ = _home(block)
    assert body["messages"][0]["content"] == [block]


def _home(*content: Any) -> tuple[dict[str, Any], Any]:
    written = write_request(make_call([{"role": "user", "content": list(content)}]), HOME)
    return json.loads(written.body), written


def test_what_a_provider_ran_rides_along_in_an_assistants_turn() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    (part,) = _parts(use, role="assistant")
    assert isinstance(part, ForeignPart)


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "tool", "name": "Bash"}, ToolChoice("named", ("Bash",))),
    ],
)
def test_each_choice_is_understood(given: dict[str, Any], choice: ToolChoice) -> None:
    assert make_call(tool_choice=given).choice == choice


def test_results_come_first_wherever_they_stand() -> None:
    use: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "x", "input": {}}
    call = make_call(
        [
            *HELLO,
            {"role": "assistant", "content": [use]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Well"}, {"type": "tool_result", "tool_use_id": "a"}],
            },
        ]
    )
    assert [message.role for message in call.messages] == ["user", "assistant", "tool", "user"]


def test_an_instruction_inside_the_conversation_keeps_its_place() -> None:
    call = make_call([*HELLO, {"role": "system", "content": "Be brief."}, *HELLO])
    assert [message.role for message in call.messages] == ["user", "system", "user"]


def test_a_schema_is_understood_in_both_places_where_clients_put_it() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    for call in (make_call(output_config={"format": form}), make_call(output_format=form)):
        assert call.format is not None
        assert call.format.kind == "schema"
        body, _ = sent_home(call)
        assert body["output_config"] == {"format": form}


def test_a_count_of_tokens_needs_no_limit() -> None:
    ask = make_ask(max_tokens=..., endpoint="messages/count_tokens")
    assert anthropic.read_call(ask).max_tokens is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": ...}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"messages": ...}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        "messages[0].content[0].source",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
        "messages[0].content[0].source.media_type",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "url", "url": "file:///etc"}}],
                }
            ]
        },
        "messages[0].content[0].source.url",
    ),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "x"}],
                }
            ]
        },
        "messages[0].content[0].input",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
        "messages[0].content[0].tool_use_id",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "a",
                            "content": [{"type": "text", "text": 5}],
                        }
                    ],
                }
            ]
        },
        "messages[0].content[0].content[0].text",
    ),
    ({"system": [{"type": "image", "source": PNG}]}, "system[0]"),
    ({"system": 5}, "system"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"thinking": {"type": "loud"}}, "thinking.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"output_config": {"effort": "some"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id"),
    ({"stop_sequences": ["a", 5]}, "stop_sequences[1]"),
]


@pytest.mark.parametrize(("more", "param"), WRONG)
def test_what_is_wrong_is_named_by_its_place(more: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        make_call(**more)
    assert caught.value.param == param
    assert param in caught.value.message


# --- sealed state ---------------------------------------------------------------------------------


def _thinking(signature: str) -> ReasoningPart:
    (part,) = _parts({"type": "thinking", "thinking": "hm", "signature": signature}, role="assistant")
    assert isinstance(part, ReasoningPart)
    return part


def test_a_signature_in_an_envelope_leads_back_to_its_maker() -> None:
    state = OpaqueState("openai-responses-v1", "gAAA", provider="openai", account="k2", id="rs_1")
    assert _thinking(wrap(state)) == ReasoningPart("hm", state, summary=True)


@pytest.mark.parametrize("signature", ["", "mpx1.damaged!", wrap(OpaqueState("unknown", ""))])
def test_thinking_that_nobody_sealed_never_reaches_anthropic(signature: str) -> None:
    assert _thinking(signature).state is None
    answered = [
        {"type": "thinking", "thinking": "hm", "signature": signature},
        {"type": "text", "text": "x"},
    ]
    body, written = sent_home(make_call([*HELLO, {"role": "assistant", "content": answered}, *HELLO]))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "x"}]
    assert [change.op for change in written.changes] == ["drop"]


def test_a_body_with_an_envelope_is_told_from_one_that_may_pass() -> None:
    own = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "EqQB"}]}
    other = msgspec.json.decode(
        msgspec.json.encode(own).replace(b"EqQB", wrap(OpaqueState("unknown", "")).encode())
    )
    assert not holds_envelopes(make_ask([*HELLO, own]))
    assert holds_envelopes(make_ask([*HELLO, other]))
