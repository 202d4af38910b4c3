"""Instructions for services that take one system message, at the beginning, or none.

Chat templates of Qwen 3.5 and later raise "System message must be at the beginning." for a second
one (https://huggingface.co/Qwen/Qwen3.5-27B/blob/main/chat_template.jinja,
https://github.com/ollama/ollama/issues/17774). Leading ones are joined, later ones become labelled
text of the user. Templates of Gemma to 2 raise "System role not supported"
(https://github.com/abetlen/llama-cpp-python/issues/1580), and Google's API refuses instructions for
Gemma 3 (https://github.com/google/adk-python/issues/3900): they begin the first message of the
user. Imports no dialect.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from modelplex.core.request import Change, ChatRequest, Message, TextPart
from modelplex.dialects.core.alternating_roles import joined_parts
from modelplex.dialects.core.members import is_empty
from modelplex.dialects.core.turns import INSTRUCTIONS, SYSTEM_NOTE

SUMMED_UP = "[Summary of the conversation so far, written when it was compacted]\n"
"""Begins the summary of a compacted conversation, which is sent as a user's text."""
JOINED = "this service takes one system message: it is joined to the first"
NOTED = "this service takes a system message at the beginning alone: sent as a user's text"
BEGUN = "this model takes no system message: it begins the first message of the user"
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


def without_system(call: ChatRequest) -> ChatRequest:
    """The request without a system message: the leading ones begin the first message, which is the
    user's.
    """
    call = with_system_first(call)
    if not call.messages or call.messages[0].role not in INSTRUCTIONS:
        return call
    system, *rest = call.messages
    changes = [Change("move", system.path, BEGUN)]
    changes += [Change("drop", system.member(name), BEGUN) for name in _lost(system)]
    first = msgspec.structs.replace(system, role="user", name=None, extra={})
    if rest and rest[0].role == "user":
        first = msgspec.structs.replace(rest[0], parts=joined_parts(system.parts, rest.pop(0).parts))
    return msgspec.structs.replace(call, messages=(first, *rest), changes=(*call.changes, *changes))


def _lost(message: Message) -> list[str]:
    """Members of a message that are lost where its parts join another one."""
    lost = [name for name, value in message.extra.items() if not is_empty(value)]
    return [*lost, "name"] if message.name is not None else lost


def _joined(leading: list[Message], changes: list[Change]) -> Message:
    first, *others = leading
    for message in others:
        changes.append(Change("move", message.path, JOINED))
        changes += [Change("drop", message.member(name), JOINED) for name in _lost(message)]
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
