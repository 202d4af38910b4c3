"""The path of each reported loss leads to the lost value in the client's body.

Generated conversations have a marker in each value. A marker that is not in the provider's body
must be below the path of a reported change, and below a dropped path nothing may have been sent.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt, Change, ModelFacts, ProviderRequest
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request
from tests.dialects.sides import client_dialect

CONVERSATIONS = 60
"""Of each pair of dialects."""
Item = TypeVar("Item")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 24).decode()
MARKER = re.compile(r"mk\d+z")
ENDPOINTS: dict[str, Any] = {
    "openai_chat": "chat/completions",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "generate_content",
    "ollama": "api/chat",
}
PAIRS = [(client, provider) for client in ENDPOINTS for provider in ENDPOINTS if client != provider]


class Maker:
    """Makes the parts of one body; each value has a marker of its own."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers: Iterator[int] = itertools.count()
        self._calls: Iterator[int] = itertools.count()

    def mark(self) -> str:
        return f"mk{next(self._numbers)}z"

    def call_id(self) -> str:
        return f"call{next(self._calls)}"

    def is_so(self) -> bool:
        return self._random.random() < 0.5

    def pick(self, *of: Item) -> Item:
        return self._random.choice(of)

    def count(self, least: int, most: int) -> range:
        return range(self._random.randint(least, most))

    def rarely(self, part: dict[str, Any]) -> list[dict[str, Any]]:
        """A part that some provider refuses."""
        return [part] if self._random.random() < 0.06 else []

    def some(self, **members: Callable[[], Any]) -> dict[str, Any]:
        """A few of these members."""
        return {name: make() for name, make in members.items() if self.is_so()}


# --- bodies of the five dialects


def chat_body(m: Maker) -> dict[str, Any]:
    def cache() -> dict[str, Any]:
        return {"type": "ephemeral", "ttl": m.mark()}

    def text() -> dict[str, Any]:
        marked = m.some(cache_control=cache, surprise=m.mark)
        return {"type": "text", "text": m.mark(), **marked}

    def user_part() -> dict[str, Any]:
        image: Any = {"url": f"data:image/png;base64,{PNG}", **m.some(detail=m.mark)}
        file: Any = {"file_data": "data:text/plain;base64,aGk=", **m.some(filename=m.mark, surprise=m.mark)}
        other = m.some(prompt_cache_breakpoint=cache, surprise=m.mark)
        return m.pick(
            text(), text(), {"type": "image_url", "image_url": image, **other}, {"type": "file", "file": file}
        )

    def content(part: Callable[[], Any]) -> Any:
        return [part() for _ in m.count(1, 3)] if m.is_so() else m.mark()

    address = {"type": "image_url", "image_url": {"url": "https://e.org/a.png"}}
    sound = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}
    messages: list[Any] = [
        {"role": m.pick("system", "developer"), "content": content(text)} for _ in m.count(0, 2)
    ]
    messages.append({"role": "user", "content": content(user_part), **m.some(name=m.mark, surprise=m.mark)})
    for _ in m.count(1, 3):
        ids = [m.call_id() for _ in m.count(0, 2)]
        calls: list[dict[str, Any]] = [
            {
                "id": id_,
                "type": "function",
                "function": {"name": "f", "arguments": m.pick("{}", "[1]"), **m.some(surprise=m.mark)},
                **m.some(
                    surprise=m.mark,
                    cache_control=cache,
                    extra_content=lambda: {"google": {"thought_signature": m.mark()}},
                ),
            }
            for id_ in ids
        ]
        made: dict[str, Any] = {
            "role": "assistant",
            "content": content(text),
            **m.some(
                refusal=m.mark,
                reasoning_content=m.mark,
                annotations=lambda: [{"type": "url_citation", "url": m.mark()}],
                surprise=m.mark,
                extra_content=lambda: {"google": {"thought_signature": m.mark()}},
            ),
        }
        if m.is_so():
            made.pop("reasoning_content", None)
            made["reasoning_details"] = [
                {"type": "reasoning.text", "text": m.mark(), "signature": m.mark(), "index": n}
                for n in m.count(1, 2)
            ]
        messages.append({**made, "tool_calls": calls} if calls else made)
        messages += [
            {"role": "tool", "tool_call_id": id_, "content": content(text), **m.some(surprise=m.mark)}
            for id_ in m.pick(ids, ids[::-1])
        ]
        odd = [*m.rarely(address), *m.rarely(sound), *m.rarely({"type": "video_url"})]
        messages.append({"role": "user", "content": [*odd, user_part()] if odd else content(user_part)})
    return {"messages": messages}


def responses_body(m: Maker) -> dict[str, Any]:
    def part() -> dict[str, Any]:
        marked = m.some(
            prompt_cache_breakpoint=lambda: {"mode": "explicit", "ttl": m.mark()}, surprise=m.mark
        )
        image: dict[str, Any] = {
            "type": "input_image",
            "image_url": f"data:image/png;base64,{PNG}",
            **m.some(detail=m.mark),
        }
        file: dict[str, Any] = {
            "type": "input_file",
            "file_data": "data:text/plain;base64,aGk=",
            **m.some(filename=m.mark),
        }
        return {**m.pick({"type": "input_text", "text": m.mark()}, image, file), **marked}

    def text() -> dict[str, Any]:
        cited = m.some(annotations=lambda: [{"type": "url_citation", "url": m.mark()}], surprise=m.mark)
        return {"type": "output_text", "text": m.mark(), **cited}

    def content(make: Callable[[], Any]) -> Any:
        return [make() for _ in m.count(1, 3)] if m.is_so() else m.mark()

    def user() -> dict[str, Any]:
        return {"type": "message", "role": "user", "content": content(part), **m.some(surprise=m.mark)}

    def made() -> dict[str, Any]:
        message = {
            "type": "message",
            "role": "assistant",
            "content": content(text),
            **m.some(surprise=m.mark),
        }
        summary = [{"type": "summary_text", "text": m.mark()}]
        thought = {"type": "reasoning", "summary": summary, **m.some(encrypted_content=m.mark)}
        inside = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": m.mark()}]}
        return m.pick(message, message, thought, inside, {"type": "web_search_call", "id": m.mark()})

    items: list[Any] = [user()]
    for _ in m.count(1, 3):
        ids = [m.call_id() for _ in m.count(0, 2)]
        items += [made() for _ in m.count(0, 3)]
        items += [
            {
                "type": "function_call",
                "call_id": id_,
                "name": "f",
                "arguments": m.pick("{}", "[1]"),
                **m.some(surprise=m.mark),
            }
            for id_ in ids
        ]
        items += [made() for _ in m.count(0, 1)]
        items += [
            {
                "type": "function_call_output",
                "call_id": id_,
                "output": content(part),
                **m.some(surprise=m.mark),
            }
            for id_ in m.pick(ids, ids[::-1])
        ]
        items += m.rarely({"type": "item_reference", "id": "x"})
        odd = m.rarely({"type": "input_file", "file_id": "x"}) + m.rarely({"type": "input_video"})
        items.append({"role": "user", "content": [part(), *odd]} if odd else user())
    return {"input": items}


def anthropic_body(m: Maker) -> dict[str, Any]:
    def cache() -> dict[str, Any]:
        return {"type": "ephemeral", "ttl": m.mark()}

    def marked(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, **m.some(cache_control=cache, surprise=m.mark)}

    def text() -> dict[str, Any]:
        return marked(
            {"type": "text", "text": m.mark(), **m.some(citations=lambda: [{"cited_text": m.mark()}])}
        )

    def user_part() -> dict[str, Any]:
        source = m.pick(
            {"type": "text", "media_type": "text/plain", "data": m.mark()},
            {"type": "base64", "media_type": "text/plain", "data": "aGk="},
        )
        document = {"type": "document", "source": source, **m.some(title=m.mark, context=m.mark)}
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
        found = {
            "type": "search_result",
            "source": m.mark(),
            "title": m.mark(),
            "content": [{"type": "text", "text": m.mark()}],
        }
        return m.pick(text(), text(), marked(document), marked(image), marked(found))

    def content(make: Callable[[], Any]) -> Any:
        return [make() for _ in m.count(1, 3)] if m.is_so() else m.mark()

    body: dict[str, Any] = {"max_tokens": 64, **m.some(system=lambda: content(text))}
    messages: list[Any] = [{"role": "user", "content": content(user_part), **m.some(surprise=m.mark)}]
    for _ in m.count(1, 3):
        ids = [m.call_id() for _ in m.count(0, 2)]
        thoughts = [
            m.pick(
                {"type": "thinking", "thinking": m.mark(), "signature": m.mark()},
                {"type": "redacted_thinking", "data": m.mark()},
            )
            for _ in m.count(0, 2)
        ]
        calls = [
            marked({"type": "tool_use", "id": id_, "name": "f", "input": {"a": m.mark()}}) for id_ in ids
        ]
        made = [*thoughts, *(text() for _ in m.count(0, 2)), *calls]
        messages.append({"role": "assistant", "content": made or m.mark()})
        results = [
            marked(
                {
                    "type": "tool_result",
                    "tool_use_id": id_,
                    "content": content(user_part),
                    "is_error": m.is_so(),
                }
            )
            for id_ in m.pick(ids, ids[::-1])
        ]
        odd = m.rarely({"type": "container_upload", "file_id": "x"})
        odd += m.rarely({"type": "image", "source": {"type": "url", "url": "https://e.org/a.png"}})
        others = [user_part() for _ in m.count(1, 2)]
        messages.append({"role": "user", "content": [*results, *others, *odd]})
    return {**body, "messages": messages}


def gemini_body(m: Maker) -> dict[str, Any]:
    is_snake = m.is_so()

    def name(camel: str) -> str:
        return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", camel) if is_snake else camel

    def parts(made: list[Any]) -> Any:
        return made[0] if len(made) == 1 and m.is_so() else made

    def user_part() -> dict[str, Any]:
        blob: Any = {name("mimeType"): "image/png", "data": PNG, **m.some(surprise=m.mark)}
        file: Any = {name("mimeType"): "text/plain", "data": "aGk=", **m.some(displayName=m.mark)}
        file = {name(each): value for each, value in file.items()}
        part = m.pick({"text": m.mark()}, {name("inlineData"): blob}, {name("inlineData"): file})
        return {**part, **m.some(surprise=m.mark)}

    body: dict[str, Any] = m.some(
        systemInstruction=lambda: {"parts": parts([{"text": m.mark()} for _ in m.count(1, 2)])}
    )
    body = {name(each): value for each, value in body.items()}
    contents: list[Any] = [{"role": "user", "parts": parts([user_part() for _ in m.count(1, 3)])}]
    for _ in m.count(1, 3):
        ids = [m.call_id() for _ in m.count(0, 2)]
        signed: dict[str, Callable[[], Any]] = {name("thoughtSignature"): m.mark}
        thought = {"text": m.mark(), "thought": True, **m.some(**signed)}
        calls: list[Any] = [
            {name("functionCall"): {"id": id_, "name": "f", "args": {"a_b": m.mark()}}, **m.some(**signed)}
            for id_ in ids
        ]
        made = [
            *([thought] if m.is_so() else []),
            {"text": m.mark(), **m.some(**signed, surprise=m.mark)},
            *calls,
        ]
        cut = m.pick(0, 1, len(made))
        contents += [{"role": "model", "parts": piece} for piece in (made[:cut], made[cut:]) if piece]
        results = [
            {
                name("functionResponse"): {
                    "id": id_,
                    "name": "f",
                    "response": m.pick({"output": m.mark()}, {"error": m.mark()}, {"x": m.mark()}),
                    **m.some(scheduling=m.mark, parts=lambda: parts([user_part() for _ in m.count(1, 2)])),
                }
            }
            for id_ in m.pick(ids, ids[::-1])
        ]
        odd = m.rarely({"videoMetadata": {}}) + m.rarely(
            {name("inlineData"): {name("mimeType"): "video/mp4", "data": "aGk="}}
        )
        contents.append({"role": "user", "parts": [*results, *(user_part() for _ in m.count(1, 2)), *odd]})
    return {**body, "contents": contents}


def ollama_body(m: Maker) -> dict[str, Any]:
    def user() -> dict[str, Any]:
        return {"role": "user", "content": m.mark(), **m.some(images=lambda: [PNG], surprise=m.mark)}

    messages: list[Any] = [{"role": "system", "content": m.mark()} for _ in m.count(0, 1)]
    messages.append(user())
    for _ in m.count(1, 3):
        calls = [
            {"function": {"name": "f", "arguments": {"a": m.mark()}, **m.some(surprise=m.mark)}}
            for _ in m.count(0, 2)
        ]
        made = {"role": "assistant", "content": m.mark(), **m.some(thinking=m.mark, surprise=m.mark)}
        messages.append({**made, "tool_calls": calls} if calls else made)
        messages += [
            {"role": "tool", "tool_name": "f", "content": m.mark(), **m.some(surprise=m.mark)} for _ in calls
        ]
        messages.append(user())
    return {"messages": messages}


BODIES: dict[str, Callable[[Maker], dict[str, Any]]] = {
    "openai_chat": chat_body,
    "openai_responses": responses_body,
    "anthropic_messages": anthropic_body,
    "gemini": gemini_body,
    "ollama": ollama_body,
}


# --- the property

_ABSENT = object()


def value_at(path: str, body: Any) -> Any:
    """The value that a reported path leads to."""
    for step in path.replace("[", ".[").split("."):
        try:
            body = body[int(step[1:-1])] if step.startswith("[") else body[step]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return body


def markers(value: Any) -> set[str]:
    return set(MARKER.findall(json.dumps(value)))


def check(body: dict[str, Any], sent: str, changes: tuple[Change, ...]) -> None:
    arrived = set(MARKER.findall(sent))
    reported: set[str] = set()
    for change in changes:
        value = value_at(change.path, body)
        assert value is not _ABSENT, f"{change} leads nowhere in {body}"
        reported |= markers(value)
        if change.op == "drop":
            assert not markers(value) & arrived, f"{change} names what was sent"
    lost = markers(body) - arrived
    assert lost <= reported, f"{lost - reported} lost in silence; {changes}"


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_a_lost_value_is_reported_at_its_place(client: str, provider: str) -> None:
    for seed in range(CONVERSATIONS):
        check_conversation(client, provider, seed)


def check_conversation(client: str, provider: str, seed: int) -> None:
    body = {"model": "m", **BODIES[client](Maker(seed))}
    asked = read_request(json.dumps(body).encode(), endpoint=ENDPOINTS[client], dialect=client)
    call = client_dialect(client).read_call(asked)
    attempt = Attempt(provider="p", model="m", dialect=provider, facts=ModelFacts(thinking="adaptive"))
    written, refused = _outcome(lambda: write_request(call, attempt))
    if written is None:
        assert value_at(refused or "", body) is not _ABSENT, refused
    else:
        check(body, written.body.decode(), written.changes)


def _outcome(write: Callable[[], ProviderRequest]) -> tuple[ProviderRequest | None, str | None]:
    """The request, or where the error says that it cannot be written."""
    try:
        return write(), None
    except ModelplexError as error:
        return None, error.param
