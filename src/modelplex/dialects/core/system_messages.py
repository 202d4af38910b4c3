"""Instructions for services that take one system message, at the beginning.

Chat templates of Qwen 3.5 and later raise "System message must be at the beginning." for a second
one (https://huggingface.co/Qwen/Qwen3.5-27B/blob/main/chat_template.jinja,
https://github.com/ollama/ollama/issues/17774). Leading ones are joined, later ones become labelled
text of the user. Imports no dialect.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from modelplex.core.request import Change, ChatRequest, Message, TextPart
from modelplex.dialects.core.members import is_empty
from modelplex.dialects.core.turns import INSTRUCTIONS, SYSTEM_NOTE

SUMMED_UP = "[Summary of the conversation so far, written when it was compacted]\n"
"""Begins the summary of a compacted conversation, which is sent as a user's text."""
JOINED = "this service takes one system message: it is joined to the first"
NOTED = "this service takes a system message at the beginning alone: sent as a user's text"
"""Reasons in reports."""


def with_system_first(call: ChatRequest) -> ChatRequest:
    """The request with one system message at most, which begins the conversation."""
    messages = call.messages
    leading = list(takewhile(lambda message: message.role in INSTRUCTIONS, messages))
    later = messages[len(leading) :]
    if len(leading) < 2 and not any(message.role in INSTRUCTIONS for message in later):
        return call
    changes: list[Change] = []
    joined = [_joined(leading, changes)] if leading else []
    rest = [_noted(message, changes) if message.role in INSTRUCTIONS else message for message in later]
    return msgspec.structs.replace(call, messages=(*joined, *rest), changes=(*call.changes, *changes))


def _joined(leading: list[Message], changes: list[Change]) -> Message:
    first, *others = leading
    for message in others:
        changes.append(Change("move", message.path, JOINED))
        lost = [name for name, value in message.extra.items() if not is_empty(value)]
        changes += [
            Change("drop", message.member(name), JOINED)
            for name in (*lost, *(("name",) if message.name is not None else ()))
        ]
    parts = tuple(part for message in leading for part in message.parts)
    return msgspec.structs.replace(first, parts=parts)


def _noted(message: Message, changes: list[Change]) -> Message:
    changes.append(Change("lower", message.path, NOTED))
    first, *others = message.parts or (TextPart(""),)
    if isinstance(first, TextPart):
        noted = [msgspec.structs.replace(first, text=SYSTEM_NOTE + first.text), *others]
    else:
        noted = [TextPart(SYSTEM_NOTE), first, *others]
    return msgspec.structs.replace(message, role="user", parts=tuple(noted))
