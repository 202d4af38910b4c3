"""Shapes: types of values that a rule permits unchanged, for msgspec. Most values of a request are
accepted by one decode, without a walk in Python. What has no shape is walked.

A shape accepts a part of what its rule permits, and never more:

1. The rule permits each accepted value without an edit, whatever rules are open.
2. An accepted value is never longer encoded than it was in the body. So equal lengths say that
   nothing was lost: a repeated member, white space and an escape make it shorter. No type reads a
   number, which may be longer encoded (1e5), or writes a tag that was not there.

Imports nothing of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Union

import msgspec
from msgspec import UNSET, UnsetType

Accepts = Callable[[Any], bool]
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises for other values, and for what is not JSON."""
MAX_LEVEL = 3
"""How often a list or an object that may stand in place of a long text is inside of another: blocks
of a result in a message's content.
"""
_encode = msgspec.json.Encoder().encode
_decode_number = msgspec.json.Decoder(int | float).decode
first_byte = struct.Struct("c").unpack_from
"""The first byte of a Raw, as a tuple: it tells the type of a JSON value."""
TEXT, LIST, OBJECT, NULL = (b'"',), (b"[",), (b"{",), (b"n",)


class Shape(NamedTuple):
    """A type, and a check of the decoded value; None where the type decides alone. `any_text`: the
    check accepts every text.
    """

    type: Any
    accepts: Accepts | None = None
    any_text: bool = False


class Members(NamedTuple):
    """The shapes of an object's members, each optional, and a check of the object as a whole."""

    shapes: Mapping[str, Shape]
    itself: Accepts | None = None


class ShapedRule(Protocol):
    def shape(self, shapes: Shapes) -> Shape | None: ...


class Shapes:
    """The shapes of rules, each made once. A rule that holds itself accepts nothing there. Made for
    one thread.
    """

    __slots__ = ("_made", "level")

    def __init__(self, level: int = 0) -> None:
        self.level = level
        self._made: dict[ShapedRule, Shape | None] = {}

    def of(self, rule: ShapedRule) -> Shape | None:
        if rule not in self._made:
            self._made[rule] = None
            self._made[rule] = rule.shape(self)
        return self._made[rule]


class Reader:
    """Accepts JSON of a shape: in compact form, and no member appears twice. The caller has checked
    that it is JSON, in UTF-8.
    """

    __slots__ = ("_accepts", "_decode")

    def __init__(self, shape: Shape) -> None:
        self._decode = msgspec.json.Decoder(shape.type).decode
        self._accepts = shape.accepts

    def __call__(self, text: msgspec.Raw | bytes) -> bool:
        try:
            value = self._decode(text)
        except REFUSED:
            return False
        return len(_encode(value)) == len(text) and (self._accepts is None or self._accepts(value))


class _LateReader:
    """Accepts JSON of a rule's shape, which is made when it is first needed."""

    __slots__ = ("_level", "_reader", "_rule")

    def __init__(self, rule: ShapedRule, level: int) -> None:
        self._rule = rule
        self._level = level
        self._reader: Accepts | None = None

    def __call__(self, raw: msgspec.Raw) -> bool:
        if self._reader is None:
            shape = Shapes(self._level).of(self._rule)
            self._reader = _nothing if shape is None else reader_of(shape)
        return self._reader(raw)


def reader_of(shape: Shape) -> Accepts:
    """Accepts the JSON of a shape; see Reader."""
    if shape.type is msgspec.Raw and shape.accepts is not None:
        return shape.accepts
    return Reader(shape)


def _nothing(_: msgspec.Raw) -> bool:
    return False


# --- plain values ---------------------------------------------------------------------------------


def _is_text(raw: msgspec.Raw) -> bool:
    first = first_byte(raw)
    return first == TEXT or first == NULL  # noqa: PLR1714 - a comparison is faster than a hash


def _is_number(raw: msgspec.Raw) -> bool:
    """Whether it is a number in range, or null."""
    if first_byte(raw) == NULL:
        return True
    try:
        _decode_number(raw)
    except REFUSED:
        return False
    return True


LONG_TEXT = Shape(msgspec.Raw, _is_text, any_text=True)
"""Text that may be long: only its first byte is read."""
NUMBER = Shape(msgspec.Raw, _is_number)


def words(allowed: Iterable[str], *plain: type) -> Shape:
    """One of these strings, a value of a plain type, or null."""
    return Shape(_union([Literal[tuple(sorted(allowed))], *plain, None]))


def matching(pattern: str, *plain: type) -> Shape:
    """A string that the pattern matches as a whole, a value of a plain type, or null."""
    return Shape(_union([Annotated[str, msgspec.Meta(pattern=rf"\A(?:{pattern})\Z")], *plain, None]))


def _union(types: Iterable[Any]) -> Any:
    return Union[tuple(types)]  # noqa: UP007 - the types are values


# --- lists, objects and unions --------------------------------------------------------------------


def list_of(entry: Shape) -> Shape:
    """A list, or null."""
    return Shape(_union([list[entry.type], None]), _each(entry.accepts))  # type: ignore[name-defined]


def _each(accepts: Accepts | None) -> Accepts | None:
    if accepts is None:
        return None

    def accepts_all(values: list[Any] | None) -> bool:
        return values is None or all(map(accepts, values))

    return accepts_all


def object_of(members: Members) -> Shape:
    """An object with these members and no others, or null."""
    shape = _object(members, [])
    return Shape(_union([shape.type, None]), shape.accepts)


def variant_of(variants: Mapping[str, Members], discriminator: str) -> Shape:
    """An object whose members depend on one that names its type."""
    if len(variants) == 1:  # msgspec reads a lone tagged type without its tag, and writes the tag
        ((kind, members),) = variants.items()
        return _object(members, [(discriminator, Literal[kind])])
    made = {kind: _object(members, [], (discriminator, kind)) for kind, members in variants.items()}
    checks = _by_type({shape.type: shape.accepts for shape in made.values()})
    return Shape(_union(shape.type for shape in made.values()), checks)


def _by_type(checks: Mapping[type[Any], Accepts | None]) -> Accepts | None:
    """The checks of several types as one. A type without a check is accepted."""
    given = {kind: check for kind, check in checks.items() if check is not None}

    def accepts(value: object) -> bool:
        check = given.get(type(value))
        return check is None or check(value)

    return accepts if given else None


def _object(
    members: Members, required: list[tuple[str, Any]], tag: tuple[str | None, str | None] = (None, None)
) -> Shape:
    named = {tag[0], *(name for name, _ in required)}
    shapes = {name: shape for name, shape in members.shapes.items() if name not in named}
    optional = [(name, _union([shape.type, UnsetType]), UNSET) for name, shape in shapes.items()]
    kind = msgspec.defstruct(
        "Value",
        [*required, *optional],
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
        tag_field=tag[0],
        tag=tag[1],
    )
    checked = {name: shape for name, shape in shapes.items() if shape.accepts is not None}
    return Shape(kind, _Checks(checked, members.itself).accept if checked or members.itself else None)


class _Checks:
    """The checks of an object's members, and of the object as a whole. A Raw is usually there, and
    any other member that needs a check is usually not.
    """

    __slots__ = ("_absent", "_get_others", "_itself", "_others", "_raws")

    def __init__(self, checked: Mapping[str, Shape], itself: Accepts | None) -> None:
        raws = {name: shape for name, shape in checked.items() if shape.type is msgspec.Raw}
        others = {name: shape for name, shape in checked.items() if name not in raws}
        self._raws = tuple((attrgetter(name), shape.any_text, shape.accepts) for name, shape in raws.items())
        self._others = tuple(shape.accepts for shape in others.values())
        # With at least two names it returns a tuple.
        self._get_others = attrgetter(*others, *[*others][:1]) if others else None
        self._absent = (UNSET,) * max(2, len(others) + 1)
        self._itself = itself

    def accept(self, value: Any) -> bool:
        if value is None:
            return True
        for get, any_text, accepts in self._raws:
            member = get(value)
            if member is UNSET or (any_text and first_byte(member) == TEXT):
                continue
            if accepts is not None and not accepts(member):
                return False
        if self._get_others is not None and (given := self._get_others(value)) != self._absent:
            for member, accepts in zip(given, self._others, strict=False):
                if member is not UNSET and accepts is not None and not accepts(member):
                    return False
        return self._itself is None or self._itself(value)


def long_union(items: ShapedRule, members: ShapedRule, shapes: Shapes) -> Shape:
    """A text that may be long, a list, an object, or null. It is decoded once more where it is no
    text, by a shape that is made when it is first needed, since rules hold one another.
    """
    level = shapes.level + 1
    if level > MAX_LEVEL:
        return LONG_TEXT
    accepts_list, accepts_object = _LateReader(items, level), _LateReader(members, level)

    def accepts(raw: msgspec.Raw) -> bool:
        first = first_byte(raw)
        if first == TEXT:
            return True
        if first == LIST:
            return accepts_list(raw)
        return accepts_object(raw) if first == OBJECT else first == NULL

    return Shape(msgspec.Raw, accepts, any_text=True)


def union_of(text: Shape | None, items: Shape | None, members: Shape | None, *plain: type) -> Shape:
    """A text, a list, an object, a value of a plain type, or null. No type is Raw."""
    given = [shape.type for shape in (text, items, members) if shape is not None]
    in_list = None if items is None else items.accepts
    in_object = None if members is None else members.accepts

    def accepts(value: object) -> bool:
        check = in_list if isinstance(value, list) else in_object
        return check is None or isinstance(value, str | bool | None) or check(value)

    return Shape(_union([*given, *plain, None]), accepts if in_list or in_object else None)
