"""Alternating turns of user and assistant, for chat templates that refuse others.

Templates of Gemma and Mistral raise "Conversation roles must alternate user/assistant/..." for two
messages of one role in a row, and for a conversation that the assistant begins
(https://huggingface.co/google/gemma-3-27b-it/blob/main/chat_template.json,
https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.3/blob/main/tokenizer_config.json). Imports
no dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.request import Change, ChatRequest, Message, Part, TextPart
from modelplex.dialects.core.members import is_empty
from modelplex.dialects.core.turns import INSTRUCTIONS, OPENING

MERGED = "this model's template takes alternating roles: it is joined to the message before"
OPENED = "this model's template begins with the user"
"""Reasons in reports."""
_TAKE_TURNS = frozenset({"user", "assistant"})


def with_alternating_roles(call: ChatRequest) -> ChatRequest:
    """The request without two messages of the user, or of the assistant, in a row."""
    changes: list[Change] = []
    messages: list[Message] = []
    for message in call.messages:
        last = messages[-1] if messages else None
        if last is not None and last.role == message.role and message.role in _TAKE_TURNS:
            messages[-1] = _joined(last, message, changes)
        elif message.role == "assistant" and (last is None or last.role in INSTRUCTIONS):
            changes.append(Change("add", message.path, OPENED))
            messages += [Message("user", (TextPart(OPENING),), path=message.path), message]
        else:
            messages.append(message)
    if not changes:
        return call
    return msgspec.structs.replace(call, messages=tuple(messages), changes=(*call.changes, *changes))


def _joined(first: Message, second: Message, changes: list[Change]) -> Message:
    changes.append(Change("move", second.path, MERGED))
    lost = [name for name, value in second.extra.items() if not is_empty(value)]
    lost += ["name"] if second.name is not None else []
    changes += [Change("drop", second.member(name), MERGED) for name in lost]
    return msgspec.structs.replace(first, parts=joined_parts(first.parts, second.parts))


def joined_parts(first: tuple[Part, ...], second: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts of both. Plain texts become one: not every template takes a list."""
    parts = (*first, *second)
    if first and second and all(map(_is_plain, parts)):
        text = "\n\n".join(part.text for part in parts if isinstance(part, TextPart))
        return (msgspec.structs.replace(first[0], text=text),)
    return parts


def _is_plain(part: Part) -> bool:
    return isinstance(part, TextPart) and part.cache is None and part.annotations is None and not part.extra
