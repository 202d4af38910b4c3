"""Sealed state goes back to its maker, and to nobody else.

Above it stands the gateway; below it the vocabulary. It is told who made what, and keeps no memory. A seal is opaque state in a conversation: a thinking signature, encrypted
reasoning. Its makers bind it to an account, so a candidate fits if it is the same provider and key. Where nobody can tell who made a seal, it may go
to the only candidate that there is, since then there is nobody else that it could have come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from modelplex.call import Attempt, Call, Change, Message, Part, Seal, Thinking, ToolCall
from modelplex.errors import StatePinned

Origin = tuple[str, str]
"""Provider and account."""
Remembered = Callable[[str], Origin | None]
"""Who made the state with this text, where it was seen to be made."""


def seals_of(call: Call) -> Iterator[tuple[str, Seal]]:
    """Each seal in the conversation, with the place in the body where it stands."""
    for message in call.messages:
        for part in message.parts:
            if isinstance(part, Thinking | ToolCall) and part.seal is not None:
                yield message.path, part.seal


def origin_of(seal: Seal, remembered: Remembered) -> Origin | None:
    if seal.provider is not None:
        return seal.provider, seal.account or ""
    return remembered(seal.data)


def pinned(attempts: Sequence[Attempt], call: Call, remembered: Remembered) -> list[Attempt]:
    """The attempts that every seal of the conversation may go to. Raises StatePinned that names who made it."""
    fitting = list(attempts)
    for path, seal in seals_of(call):
        origin = origin_of(seal, remembered)
        if origin is not None:
            fitting = [a for a in fitting if (a.provider, a.account) == origin]
            made_by = f"made by {origin[0]}"
        else:
            if len({(a.provider, a.account) for a in fitting}) > 1:
                fitting = []
            made_by = "of unknown origin"
        if not fitting:
            raise StatePinned(
                f"{path} holds sealed reasoning state {made_by}, which may go to its maker and key alone, and those do not serve the model "
                f'{call.model!r} here. Ask for the model that made it, leave the state out, or set [server] on_pinned_state = "drop".',
                param=path or None,
            )
    return fitting


def without_foreign_state(
    call: Call, attempt: Attempt, remembered: Remembered
) -> tuple[Call, tuple[Change, ...]]:
    """The call with every seal taken out that this attempt may not see, and what that was."""
    changes: list[Change] = []
    messages: list[Message] = []
    for message in call.messages:
        parts: list[Part] = []
        for part in message.parts:
            kept = _unsealed(part) if _is_foreign(part, attempt, remembered) else part
            if kept is not part:
                changes.append(Change("drop", message.path, "sealed state of another provider"))
            if kept is not None:
                parts.append(kept)
        messages.append(msgspec.structs.replace(message, parts=tuple(parts)))
    return msgspec.structs.replace(call, messages=tuple(messages)), tuple(changes)


def _is_foreign(part: Part, attempt: Attempt, remembered: Remembered) -> bool:
    if not isinstance(part, Thinking | ToolCall) or part.seal is None:
        return False
    return origin_of(part.seal, remembered) != (attempt.provider, attempt.account)


def _unsealed(part: Part) -> Part | None:
    """Readable text stays; a part that was nothing but its seal goes."""
    if isinstance(part, Thinking):
        return msgspec.structs.replace(part, seal=None) if part.text else None
    if isinstance(part, ToolCall):
        return msgspec.structs.replace(part, seal=None)
    return part
