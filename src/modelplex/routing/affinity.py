"""Affinity of opaque state: it is sent only to the provider and account that made it.

Opaque state is a thinking signature or encrypted reasoning in a conversation; its provider binds it
to an account. State of unknown origin may go to the only candidate, since no other can have made
it. The same holds for a file or audio that is stored at a provider and named by its id. The origins
are an argument: this module has no state.
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
"""The origin of the state with this text; None if it is unknown."""


def opaque_states_in(call: ChatRequest) -> Iterator[tuple[str, OpaqueState]]:
    """Each opaque state in the conversation, with the path of its part in the body."""
    for message in call.messages:
        for part in message.parts:
            if isinstance(part, ReasoningPart | ToolCallPart) and part.state is not None:
                yield str(part.at), part.state


def stored_references(call: ChatRequest) -> Iterator[str]:
    """The path of each part that names something stored at a provider: an uploaded file, or the
    audio of an earlier response.
    """
    for message in call.messages:
        for part in message.parts:
            is_file = isinstance(part, ImagePart | DocumentPart) and isinstance(part.source, FileReference)
            if is_file or (isinstance(part, AudioPart) and part.id is not None):
                yield str(part.at)


def origin_of(state: OpaqueState, find_origin: FindOrigin) -> Origin | None:
    if state.provider is not None:
        return state.provider, state.account or ""
    return find_origin(state.data)


def attempts_for_state(
    attempts: Sequence[Attempt], call: ChatRequest, find_origin: FindOrigin
) -> list[Attempt]:
    """The attempts that all opaque state and stored objects of the conversation may go to. Raises
    StatePinned, which names the origin.
    """
    allowed = list(attempts)
    unknown: list[str] = []
    for path, state in opaque_states_in(call):
        origin = origin_of(state, find_origin)
        if origin is None:
            unknown.append(path)
            continue
        allowed = [a for a in allowed if (a.provider, a.account) == origin]
        if not allowed:
            raise _pinned(f"{path} contains opaque reasoning state made by {origin[0]}", call, path=path)
    # A known origin of one state is taken as the origin of the whole conversation.
    if len({(a.provider, a.account) for a in allowed}) > 1:
        for path in unknown:
            raise _pinned(f"{path} contains opaque reasoning state of unknown origin", call, path=path)
        for path in stored_references(call):
            raise StatePinned(
                f"{path} names something stored at a provider, and {call.model!r} is served by several providers or keys. "
                "Name the provider that stores it, as provider/model.",
                param=path,
            )
    return allowed


def _pinned(what: str, call: ChatRequest, *, path: str) -> StatePinned:
    return StatePinned(
        f"{what}, which may go only to the provider and key that made it, and these do not serve the model "
        f'{call.model!r}. Request the model that made it, leave the state out, or set [server] on_pinned_state = "drop".',
        param=path or None,
    )


def without_foreign_state(
    call: ChatRequest, attempt: Attempt, find_origin: FindOrigin
) -> tuple[ChatRequest, tuple[Change, ...]]:
    """The call without the state that another provider or account made, and what was removed."""
    changes: list[Change] = []
    messages: list[Message] = []
    for message in call.messages:
        parts: list[Part] = []
        for part in message.parts:
            kept = _without_state(part) if _is_foreign(part, attempt, find_origin) else part
            if kept is not part:
                changes.append(Change("drop", str(part.at), "opaque state of another provider"))
            if kept is not None:
                parts.append(kept)
        messages.append(msgspec.structs.replace(message, parts=tuple(parts)))
    return msgspec.structs.replace(call, messages=tuple(messages)), tuple(changes)


def _is_foreign(part: Part, attempt: Attempt, find_origin: FindOrigin) -> bool:
    if not isinstance(part, ReasoningPart | ToolCallPart) or part.state is None:
        return False
    return origin_of(part.state, find_origin) != (attempt.provider, attempt.account)


def _without_state(part: Part) -> Part | None:
    """The part without its state; None if nothing else is in it."""
    if isinstance(part, ReasoningPart):
        return msgspec.structs.replace(part, state=None) if part.text else None
    if isinstance(part, ToolCallPart):
        return msgspec.structs.replace(part, state=None)
    return part
