"""What messages and their parts lose while a writer writes them.

A writer opens each message and part with `members`, which gives the optional members that are set.
It pops the ones that it writes and passes the rest to `settle`, which reports them: a member that a
writer does not know is never lost in silence. A part without optional members costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Never, Protocol

import msgspec

from modelplex.core.errors import StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    BasePart,
    Change,
    ForeignPart,
    Message,
    OpaqueState,
    Part,
    Place,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.core.ledger import Op
from modelplex.dialects.core.members import is_empty, without_empty

STRUCTURE: dict[type, frozenset[str]] = {
    BasePart: frozenset({"at"}),
    TextPart: frozenset({"annotations_of"}),
    ReasoningPart: frozenset({"redacted", "summary"}),
    ToolCallPart: frozenset({"free"}),
    ToolResultPart: frozenset({"free", "name"}),
    Message: frozenset({"id", "path", "places"}),
}
"""Optional members that say what a part is. Leaving them out is no loss: a tool result's name
repeats the name of its call.
"""
INERT: dict[str, frozenset[object]] = {"detail": frozenset({"auto"})}
"""Values that ask for what happens anyway."""
NO_PLACE = "this provider has no place for it"


class ToolNaming(Protocol):
    def __call__(self, name: str, *, path: str) -> str:
        """The name as it is sent; `path` is where to report that it is another one."""
        ...


class Losses:
    """The report of one request's messages, in `changes`. `native`: the client speaks the
    provider's dialect. `reasons` says why a member has no place there.
    """

    reasons: ClassVar[Mapping[str, str]] = {}

    def __init__(self, changes: list[Change], attempt: Attempt, *, native: bool, name_of: ToolNaming) -> None:
        self.changes = changes
        self.attempt = attempt
        self.native = native
        self._name_of = name_of
        self._names: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.changes)} changes>"

    def report(self, op: Op, place: Place | str, reason: str) -> None:
        self.changes.append(Change(op, str(place), reason))

    def drop(self, place: Place | str, reason: str) -> None:
        self.report("drop", place, reason)

    def lower(self, place: Place | str, reason: str) -> None:
        self.report("lower", place, reason)

    def clamp(self, place: Place | str, reason: str) -> None:
        self.report("clamp", place, reason)

    def tool_name(self, part: ToolCallPart) -> str:
        """The name of the call's tool as it is sent."""
        sent = self._names.get(part.name)
        if sent is None:
            sent = self._names[part.name] = self._name_of(part.name, path=part.at.member("name"))
        return sent

    # --- members

    def members(self, holder: Part | Message) -> dict[str, Any]:
        """The optional members of a part or message whose loss would be one."""
        kind = type(holder)
        get, defaults, names = _OPTIONS.get(kind) or _find_options(kind)
        values = get(holder)
        if values == defaults:
            return {}
        return {
            name: value
            for name, value, default in zip(names, values, defaults, strict=False)
            if value != default and self._says_something(name, value)
        }

    def _says_something(self, name: str, value: Any) -> bool:
        if isinstance(value, msgspec.Raw):
            return not is_empty(value)
        if name == "extra":
            return self.native or bool(without_empty(value))
        return value not in INERT.get(name, ())

    def settle(self, holder: Part | Message, members: dict[str, Any]) -> None:
        """Report the members that were not popped."""
        member = holder.member if isinstance(holder, Message) else holder.at.member
        for name, value in members.items():
            if name == "extra":
                for each in value if self.native else without_empty(value):
                    self.drop(member(each), NO_PLACE)
            else:
                self.drop(member(name), self.reasons.get(name, NO_PLACE))

    def take_extra(self, members: dict[str, Any], *names: str) -> dict[str, msgspec.Raw]:
        """Of the unread members of a part that came from a client of the provider's own dialect,
        those with these names; without names, all but those of an object inside the part.
        """
        if not members or not self.native or "extra" not in members:
            return {}
        extra: Mapping[str, msgspec.Raw] = members.pop("extra")
        taken = {name: raw for name, raw in extra.items() if (name in names if names else "." not in name)}
        if len(taken) < len(extra):
            members["extra"] = {name: raw for name, raw in extra.items() if name not in taken}
        return taken

    # --- whole parts

    def only_text(self, parts: Sequence[Part]) -> str | None:
        """The text of parts that are one plain text, as most are."""
        part = parts[0] if len(parts) == 1 else None
        return part.text if isinstance(part, TextPart) and not self.members(part) else None

    def drop_unknown(self, part: Never) -> list[Any]:
        """Report a part that no branch of a writer takes: a kind that was added to Part later.
        Nothing is written for it.
        """
        self.drop(part.at, NO_PLACE)
        return []

    def foreign(self, part: ForeignPart, *, dialect: str) -> msgspec.Raw:
        """Raises Unsupported for a part of another dialect."""
        if part.dialect != dialect:
            raise Unsupported(
                f"'{part.at}' ({part.type}) has no form in this provider's dialect.", param=str(part.at)
            )
        return part.raw

    def check_origin(self, state: OpaqueState, place: Place) -> None:
        """Raises StatePinned for state of another provider or account. Routing sends opaque state
        to its maker; this check makes a mistake there fail instead of leak.
        """
        is_other_provider = state.provider is not None and state.provider != self.attempt.provider
        is_other_account = state.account is not None and state.account != self.attempt.account
        if is_other_provider or is_other_account:
            raise StatePinned(
                f"The conversation holds sealed reasoning of {state.provider or 'another account'}, which only its maker can read.",
                param=str(place),
            )


_Options = tuple[Callable[[Any], tuple[Any, ...]], tuple[Any, ...], tuple[str, ...]]
_OPTIONS: dict[type, _Options] = {}
"""Of each struct: what gets its optional members, their defaults, and their names."""


def _find_options(kind: type[msgspec.Struct]) -> _Options:
    structure = frozenset[str]().union(*(STRUCTURE.get(each, ()) for each in kind.__mro__))
    found: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(kind):
        if field.name not in structure and not field.required:
            factory = field.default_factory
            found.append((field.name, field.default if factory is msgspec.NODEFAULT else factory()))
    names = tuple(name for name, _ in found)
    # With the class, since attrgetter gives a tuple for two names and more only.
    get: Callable[[Any], tuple[Any, ...]] = attrgetter(*names, "__class__")
    _OPTIONS[kind] = options = get, (*(default for _, default in found), kind), names
    return options
