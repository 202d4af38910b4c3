"""Affinity of opaque state: it goes back to the provider and account that made it, to no other.

Opaque state is a thinking signature or encrypted reasoning in a conversation; its maker binds it to
an account. Where the origin is unknown, it may go to the only candidate, from which alone it can
have come. The same holds for a file or a sound that is stored at a provider and named by its id.
The origins are an argument: this module keeps no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from modelplex.core.errors import StatePinned
from modelplex.core.request import (
    Attempt,
    AudioPart,
    Change,
    ChatRequest,
    DocumentPart,
    FileReference,
    ImagePart,
    Message,
    OpaqueState,
    Part,
    ReasoningPart,
    ToolCallPart,
)

Origin = tuple[str, str]
"""Provider and account."""
FindOrigin = Callable[[str], Origin | None]
"""Who made the state with this text, where it was seen to be made."""


def opaque_states_in(call: ChatRequest) -> Iterator[tuple[str, OpaqueState]]:
    """Each state in the conversation, with the place in the body where it stands."""
    for message in call.messages:
        for part in message.parts:
            if isinstance(part, ReasoningPart | ToolCallPart) and part.state is not None:
                yield message.path, part.state


def stored_references(call: ChatRequest) -> Iterator[str]:
    """Where the conversation names what is kept at a provider: an uploaded file, an earlier
    answer's sound.
    """
    for message in call.messages:
        for part in message.parts:
            is_file = isinstance(part, ImagePart | DocumentPart) and isinstance(part.source, FileReference)
            if is_file or (isinstance(part, AudioPart) and part.id is not None):
                yield message.path


def origin_of(state: OpaqueState, remembered: FindOrigin) -> Origin | None:
    if state.provider is not None:
        return state.provider, state.account or ""
    return remembered(state.data)


def attempts_for_state(
    attempts: Sequence[Attempt], call: ChatRequest, remembered: FindOrigin
) -> list[Attempt]:
    """The attempts that every state of the conversation, and everything that is kept elsewhere, may
    go to. Raises StatePinned that names who made it.
    """
    fitting = list(attempts)
    unknown: list[str] = []
    for path, state in opaque_states_in(call):
        origin = origin_of(state, remembered)
        if origin is None:
            unknown.append(path)
            continue
        fitting = [a for a in fitting if (a.provider, a.account) == origin]
        if not fitting:
            raise _pinned(f"{path} holds sealed reasoning state made by {origin[0]}", call, path=path)
    # What one state tells of where the conversation was is told of all of it.
    if len({(a.provider, a.account) for a in fitting}) > 1:
        for path in unknown:
            raise _pinned(f"{path} holds sealed reasoning state of unknown origin", call, path=path)
        for path in stored_references(call):
            raise StatePinned(
                f"{path} names something that is kept at a provider, and {call.model!r} is served by several providers or keys. "
                "Name the one that has it, as provider/model.",
                param=path,
            )
    return fitting


def _pinned(what: str, call: ChatRequest, *, path: str) -> StatePinned:
    return StatePinned(
        f"{what}, which may go to its maker and key alone, and those do not serve the model "
        f'{call.model!r} here. Ask for the model that made it, leave the state out, or set [server] on_pinned_state = "drop".',
        param=path or None,
    )


def without_foreign_state(
    call: ChatRequest, attempt: Attempt, remembered: FindOrigin
) -> tuple[ChatRequest, tuple[Change, ...]]:
    """The call with every state taken out that this attempt may not see, and what that was."""
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


def _is_foreign(part: Part, attempt: Attempt, remembered: FindOrigin) -> bool:
    if not isinstance(part, ReasoningPart | ToolCallPart) or part.state is None:
        return False
    return origin_of(part.state, remembered) != (attempt.provider, attempt.account)


def _unsealed(part: Part) -> Part | None:
    """Readable text stays; a part that was nothing but its state goes."""
    if isinstance(part, ReasoningPart):
        return msgspec.structs.replace(part, state=None) if part.text else None
    if isinstance(part, ToolCallPart):
        return msgspec.structs.replace(part, state=None)
    return part
