"""Compaction of a conversation by providers that have none: the model is asked for a summary.

Codex compacts in two ways where its provider is named "OpenAI": with `POST /responses/compact`, or
with an item `compaction_trigger` at the end of a request, whose response must hold one item
`compaction` (https://github.com/openai/codex/blob/main/codex-rs/core/src/compact_remote_v2.rs,
compact_remote.rs). The item has the summary in an envelope, and is read as text of the user again,
for every provider. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, ResponseEnded, ResponseFailed, TextDelta, Usage, UsageReported
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Place,
    RawRequest,
    TextPart,
    ToolChoice,
    UrlReference,
)
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.media import data_url
from modelplex.dialects.core.system_messages import SUMMED_UP
from modelplex.dialects.openai_responses.constants import DIALECT, SUMMARY, TRIGGER
from modelplex.dialects.openai_responses.request_in import INSTRUCTIONS, read_call
from modelplex.dialects.openai_responses.usage import write_usage

PROMPT = (
    "The conversation is about to be replaced by a summary, which you write now. Another assistant will "
    "continue the work with it and with the user's messages alone. Write down what was asked for, what was "
    "done and decided, with the names of files, commands and functions, what was found out, what failed, "
    "and what has to be done next. Write the summary and nothing else; call no tools."
)
ASKED = "this provider does not compact: its model is asked for a summary"
"""The reason in reports."""
RETAINED_CHARACTERS = 256_000
"""Of the user's messages in a compacted conversation, the last: 64,000 tokens, as at OpenAI
(compact_remote_v2.rs).
"""


def is_compaction(call: ChatRequest) -> bool:
    """Whether the response is to be a compacted conversation."""
    last = call.messages[-1] if call.messages else None
    part = last.parts[0] if last is not None and last.parts else None
    return isinstance(part, ForeignPart) and (part.dialect, part.type) == (DIALECT, TRIGGER)


def read_compaction(raw_request: RawRequest) -> ChatRequest:
    """A body of `POST /responses/compact` as the request that ends with a trigger."""
    call = read_call(raw_request)
    trigger = ForeignPart(DIALECT, TRIGGER, msgspec.Raw(b'{"type":"compaction_trigger"}'), at=Place("input"))
    return msgspec.structs.replace(
        call, messages=(*call.messages, Message("user", (trigger,), path="input")), stream=False
    )


def asked_for_summary(call: ChatRequest, attempt: Attempt) -> ChatRequest:
    """The request that asks the model for a summary, for a provider that does not compact. Tools
    stay, since the conversation has calls of them, and may not be called.
    """
    if not is_compaction(call) or (attempt.quirks.compacts and attempt.dialect == DIALECT):
        return call
    path = call.messages[-1].path
    prompt = Message("user", (TextPart(PROMPT, at=Place(path)),), path=path)
    return msgspec.structs.replace(
        call,
        messages=(*call.messages[:-1], prompt),
        choice=ToolChoice("none") if call.tools else None,
        format=None,
        changes=(*call.changes, Change("lower", path, ASKED)),
    )


def compaction_item(response_id: str, summary: str) -> dict[str, Any]:
    """The item with the summary. `response_id` is without its prefix."""
    content = wrap(OpaqueState(SUMMARY, summary))
    return {"id": f"cmp_{response_id}", "type": "compaction", "encrypted_content": content}


def no_summary() -> UpstreamBroken:
    return UpstreamBroken("The model wrote no summary of the conversation, or not all of it.")


def write_compaction(
    events: Sequence[Event], call: ChatRequest, *, id: str, created: int, model: str
) -> tuple[bytes, list[Change]]:
    """The response of `POST /responses/compact`: the user's messages and the summary. Raises the
    error of ResponseFailed, and UpstreamBroken where there is no whole summary.
    """
    del model  # a compacted conversation names none
    texts: list[str] = []
    usage = Usage()
    is_whole = False
    for event in events:
        match event:
            case ResponseFailed(error=error):
                raise error
            case TextDelta(choice=0, text=text):
                texts.append(text)
            case UsageReported():
                usage = event.usage
            case ResponseEnded(choice=0, reason=reason):
                is_whole = reason in {"stop", "stop_sequence"}
            case _:
                continue
    summary = "".join(texts).strip()
    if not summary or not is_whole:
        raise no_summary()
    name = id.removeprefix("resp_")
    document = {
        "id": f"resp_{name}",
        "object": "response.compaction",
        "created_at": created,
        "output": [*retained(call.messages), compaction_item(name, summary)],
        "usage": write_usage(usage),
    }
    return encode(document), []


def retained(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The user's last messages, as items."""
    kept: list[dict[str, Any]] = []
    left = RETAINED_CHARACTERS
    for message in reversed([*messages]):
        if message.role != "user" or message.path == INSTRUCTIONS:
            continue
        content = list(_content(message))
        left -= sum(len(part.get("text", "")) for part in content)
        if left < 0:
            break
        if content:
            kept.append({"type": "message", "role": "user", "status": "completed", "content": content})
    return kept[::-1]


def _content(message: Message) -> Iterator[dict[str, Any]]:
    """Text and images; summaries of earlier compactions are in the new one."""
    for part in message.parts:
        match part:
            case TextPart() if not part.text.startswith(SUMMED_UP):
                yield {"type": "input_text", "text": part.text}
            case ImagePart(source=InlineData() | UrlReference() as source):
                url = source.url if isinstance(source, UrlReference) else data_url(source)
                yield {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
            case _:
                continue
