"""Bodies made from the request types of the official SDKs, each with one probe: a URL, an id, or an
object of no known type.

Every member of every type is probed at every place where the type is used, and so is every entry of
a list and key of a map. A place is named by its type: `chat_params.ImageURL.url`.
"""

from __future__ import annotations

import datetime as dt
import enum
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import typing_extensions
from pydantic import BaseModel

MARK = "zqprobe"
"""It is in every probe, and in nothing else."""
PROBES: dict[str, Any] = {
    "url": f"https://{MARK}.example/x.png",
    "id": f"file-{MARK}4242ABCDEF",
    "object": {f"{MARK}_url": f"https://{MARK}.example/y", "nested": [{"file_id": f"file-{MARK}"}]},
}
"""An address, an id of something stored, and an unknown object."""
LISTED = frozenset({list, Iterable, Sequence, set, typing.get_origin(typing.Iterable[int]), typing.get_origin(typing.Sequence[int])})  # fmt: skip
MAPPED = frozenset({dict, Mapping, typing.get_origin(typing.Mapping[str, int])})
WRAPPERS = frozenset({typing.Annotated, typing_extensions.Required, typing_extensions.NotRequired})
DEEPEST = 4
"""Levels of objects that an object must have: no type needs itself to be whole."""
Spell = Callable[[Any, str], str]
"""The name of a member as the wire has it."""
Wrap = Callable[[Any], dict[str, Any]]
"""Puts a value into a body."""


@dataclass(frozen=True)
class Probe:
    """`place` names the type's member, `kind` is one of PROBES, or `key` for the key of a map."""

    place: str
    kind: str
    body: dict[str, Any]


@cache
def hints(kind: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(kind, include_extras=True)


def atoms(kind: Any) -> Iterator[Any]:
    """The alternatives of a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in WRAPPERS:
        yield from atoms(arguments[0])
    elif origin in {typing.Union, types.UnionType}:
        for each in arguments:
            yield from atoms(each)
    elif kind is not type(None):
        yield kind


def is_object(kind: Any) -> bool:
    return typing_extensions.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))


def is_required(kind: Any, name: str) -> bool:
    if typing_extensions.is_typeddict(kind):
        return name in kind.__required_keys__
    field = cast("type[BaseModel]", kind).model_fields[name]
    return field.is_required()


def members_of(kind: Any) -> dict[str, Any]:
    if typing_extensions.is_typeddict(kind):
        return hints(kind)
    return {name: field.annotation for name, field in cast("type[BaseModel]", kind).model_fields.items()}


def name_of(kind: Any) -> str:
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def plain(kind: Any, depth: int = 0) -> Any:
    """A harmless value of a type."""
    for each in atoms(kind):
        origin, arguments = typing.get_origin(each), typing.get_args(each)
        if origin is typing.Literal:
            return arguments[0]
        if isinstance(each, type) and issubclass(each, enum.Enum):
            return next(iter(each)).value
        if each is str:
            return "w"
        if each is bool:
            return False
        if each in {int, float}:
            return 1
        if each is bytes:
            return "QUJD"
        if each is dt.datetime:
            return "2026-01-01T00:00:00Z"
        if origin in LISTED:
            return []
        if origin in MAPPED or each in {object, Any, dict}:
            return {}
        if is_object(each) and depth < DEEPEST:
            return {
                name: plain(inner, depth + 1)
                for name, inner in members_of(each).items()
                if is_required(each, name)
            }
    return "w"


def as_it_is(_: Any, name: str) -> str:
    return name


class Prober:
    """All probes of a request type. `spell` writes the name of a member as the wire has it; `names`
    are members that the SDK sends elsewhere than in the body.
    """

    def __init__(self, *, spell: Spell | None = None, elsewhere: frozenset[str] = frozenset()) -> None:
        self.spell: Spell = spell or as_it_is
        self.elsewhere = elsewhere

    def of_request(self, kind: Any, wrap: Wrap) -> Iterator[Probe]:
        """The members of a body's top level, and all that is within. `wrap` adds to a body what it
        must have.
        """
        yield from self._object(kind, wrap, (kind,))

    def of_value(self, kind: Any, place: str, wrap: Wrap, seen: tuple[Any, ...] = ()) -> Iterator[Probe]:
        for probe, value in PROBES.items():
            yield Probe(place, probe, wrap(value))
        for each in atoms(kind):
            origin, arguments = typing.get_origin(each), typing.get_args(each)
            if origin in LISTED:
                inner = arguments[0] if arguments else object
                yield from self.of_value(inner, f"{place}[]", lambda v: wrap([v]), seen)
            elif origin in MAPPED:
                yield Probe(f"{place}{{}}", "key", wrap({PROBES["id"]: plain(arguments[1])}))
                yield from self.of_value(arguments[1], f"{place}{{}}", lambda v: wrap({"k": v}), seen)
            elif is_object(each) and each not in seen:
                yield from self._object(each, wrap, (*seen, each))

    def _object(self, kind: Any, wrap: Wrap, seen: tuple[Any, ...]) -> Iterator[Probe]:
        """Each member beside only those that say what the object is, and beside all that it must
        have.
        """
        members = {name: inner for name, inner in members_of(kind).items() if name not in self.elsewhere}
        for said in self._said(kind, members):
            whole = {
                self.spell(kind, name): plain(inner)
                for name, inner in members.items()
                if is_required(kind, name)
            } | said
            for probe, value in PROBES.items():
                yield Probe(f"{name_of(kind)}.*", probe, wrap({**said, f"zz_{probe}": value}))
            for name, inner in members.items():
                key = self.spell(kind, name)
                place = f"{name_of(kind)}.{name}"
                for probe, value in PROBES.items():
                    yield Probe(place, probe, wrap({**whole, key: value}))
                yield from self.of_value(inner, place, _within(wrap, said, key), seen)

    def _said(self, kind: Any, members: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The members that say what an object is, in every combination that matters: each of its
        types, with its first role.
        """
        fixed = {
            self.spell(kind, name): plain(inner)
            for name, inner in members.items()
            if name == "role" and is_required(kind, name)
        }
        kinds = [
            word
            for each in atoms(members.get("type"))
            if typing.get_origin(each) is typing.Literal
            for word in typing.get_args(each)
        ]
        if not kinds:
            yield fixed
        for word in kinds:
            yield {**fixed, "type": word}


def _within(wrap: Wrap, said: Mapping[str, Any], key: str) -> Wrap:
    return lambda value: wrap({**said, key: value})
