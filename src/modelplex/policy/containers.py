"""Rules for objects, lists, unions and tagged objects: they apply other rules to the values inside.

`ObjectRule` and `ListRule` are the hot path of the policy. They skip a value whose type its rule
allows without a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import msgspec

from modelplex.policy.accepted_types import (
    LONG_TEXT,
    Members,
    Shape,
    Shapes,
    list_of,
    long_union,
    object_of,
    reader_of,
    union_of,
    variant_of,
)
from modelplex.policy.large_list import LargeList
from modelplex.policy.path import Path
from modelplex.policy.value_rules import UNKNOWN_FIELD, UNKNOWN_PART
from modelplex.policy.walk import UNKNOWN_FORM, Children, Json, PolicyWalk, ValueRule

WhenEmpty = Literal["keep", "drop", "parent"]
"""What happens to a list whose entries are all removed: it stays, it is removed, or the object that
holds it is removed.
"""
MAX_CACHED_TYPES = 64
MAX_CACHED_TYPE_LENGTH = 64
"""How many types, of how many characters, a VariantRule remembers the pattern match of. A list may
repeat one type thousands of times.
"""


class ObjectRule(ValueRule):
    """An object whose members have rules by name. `default` is the rule of all other members."""

    __slots__ = ("default", "fields", "when_empty")

    def __init__(
        self,
        fields: Mapping[str, ValueRule],
        *,
        default: ValueRule = UNKNOWN_FIELD,
        when_empty: Literal["keep", "drop"] = "keep",
    ) -> None:
        self.fields = dict(fields)
        self.default = default
        self.when_empty = when_empty

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            if value is not None:
                walk.refuse(path, "unknown-form")
            return
        find, default = self.fields.get, self.default
        if self.when_empty == "drop":
            self._apply_and_drop(walk, cast("Json", value), path)
            return
        for key, member in cast("Json", value).items():
            rule = find(key, default)
            kind = cast("type[object]", type(member))
            if kind not in rule.allowed_types and not (
                kind is str and rule.allowed_words and member in rule.allowed_words
            ):
                if kind is LargeList and not rule.takes_large_lists:
                    member = list(cast("LargeList", member))  # noqa: PLW2901 - the same value
                    if list in rule.allowed_types:
                        continue
                rule(walk, member, (path, key))

    def _apply_and_drop(self, walk: PolicyWalk, value: Json, path: Path) -> None:
        left = len(value)
        for key, member in value.items():
            rule = self.fields.get(key, self.default)
            if type(member) is LargeList:
                member = list(member)  # noqa: PLW2901 - the same value
            if type(member) not in rule.allowed_types:
                since, here = len(walk.edits), (path, key)
                rule(walk, member, here)
                left -= walk.is_removed(here, since)
        if value and not left:
            walk.remove(path)

    def children(self) -> Children:
        return (*((f".{key}", rule) for key, rule in self.fields.items()), (".*", self.default))

    def shape(self, shapes: Shapes) -> Shape | None:
        return object_of(self.member_shapes(shapes))

    def member_shapes(self, shapes: Shapes) -> Members:
        found = {key: shapes.of(rule) for key, rule in self.fields.items()}
        return Members({key: shape for key, shape in found.items() if shape is not None})


class ListRule(ValueRule):
    """A list with one rule for every entry."""

    __slots__ = ("entry", "when_empty")
    takes_large_lists = True

    def __init__(self, entry: ValueRule, *, when_empty: WhenEmpty = "keep") -> None:
        self.entry = entry
        self.when_empty = when_empty

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, list) and type(value) is not LargeList:
            if value is not None:
                walk.refuse(path, "unknown-form")
            return
        entries = cast("list[Any] | LargeList", cast("object", value))
        left, rule = len(entries), self.entry
        for index, entry in enumerate(entries):
            if type(entry) in rule.allowed_types:
                continue
            here, since = (path, index), len(walk.edits)
            rule(walk, entry, here)
            if len(walk.edits) > since and walk.is_removed(here, since):
                left -= 1
        if entries and not left and self.when_empty != "keep":
            walk.remove(path if self.when_empty == "drop" or path is None else path[0])

    def children(self) -> Children:
        return (("[]", self.entry),)

    def shape(self, shapes: Shapes) -> Shape | None:
        entry = shapes.of(self.entry)
        return None if entry is None else list_of(entry)


class UnionRule(ValueRule):
    """A value that may be a string, a list, an object, or of one of the `plain` types. A JSON type
    without a rule is refused.
    """

    __slots__ = ("allowed_types", "items", "members", "takes_large_lists", "text")

    def __init__(
        self,
        *,
        text: ValueRule = UNKNOWN_FORM,
        items: ValueRule = UNKNOWN_FORM,
        members: ValueRule = UNKNOWN_FORM,
        plain: Iterable[type] = (),
    ) -> None:
        self.text = text
        self.items = items
        self.members = members
        self.takes_large_lists = items.takes_large_lists
        self.allowed_types = frozenset((type(None), *plain)) | (text.allowed_types & {str})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        rule: ValueRule = UNKNOWN_FORM
        if isinstance(value, str):
            rule = self.text
        elif isinstance(value, list) or type(value) is LargeList:
            rule = self.items
        elif isinstance(value, dict):
            rule = self.members
        if type(cast("object", value)) not in rule.allowed_types:
            rule(walk, value, path)

    def children(self) -> Children:
        return (("", rule) for rule in (self.text, self.items, self.members))

    def shape(self, shapes: Shapes) -> Shape | None:
        text, members = shapes.of(self.text), self.members
        while isinstance(members, UnionRule):
            members = members.members
        if text == LONG_TEXT:
            return long_union(self.items, members, shapes)
        if text is not None and text.type is msgspec.Raw:
            return text
        flag = self.allowed_types & {bool}
        return union_of(text, shapes.of(self.items), shapes.of(members), *flag)


class VariantRule(ValueRule):
    """An object whose rule depends on the member `discriminator`: by exact value, then by the first
    of `patterns` that matches the whole value, else `default`. `absent` is for null or no member.
    """

    __slots__ = ("_recent", "absent", "default", "discriminator", "patterns", "variants")

    def __init__(
        self,
        variants: Mapping[str, ValueRule],
        *,
        discriminator: str = "type",
        absent: ValueRule = UNKNOWN_PART,
        default: ValueRule = UNKNOWN_PART,
        patterns: Iterable[tuple[str, ValueRule]] = (),
    ) -> None:
        self.variants = dict(variants)
        self.discriminator = discriminator
        self.absent = absent
        self.default = default
        self.patterns = tuple((re.compile(pattern), rule) for pattern, rule in patterns)
        self._recent: dict[str, ValueRule] = {}

    def rule_for(self, kind: object) -> ValueRule:
        """The rule of an object whose discriminator is `kind`."""
        if kind is None:
            return self.absent
        if not isinstance(kind, str):
            return UNKNOWN_FORM
        if kind in self.variants:
            return self.variants[kind]
        rule = self._recent.get(kind)
        if rule is None:
            rule = next((rule for pattern, rule in self.patterns if pattern.fullmatch(kind)), self.default)
            if len(self._recent) < MAX_CACHED_TYPES and len(kind) <= MAX_CACHED_TYPE_LENGTH:
                self._recent[kind] = rule
        return rule

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            walk.refuse(path, "unknown-form")
            return
        self.rule_for(cast("Json", value).get(self.discriminator))(walk, value, path)

    def children(self) -> Children:
        return (
            *((f"{{{kind}}}", rule) for kind, rule in self.variants.items()),
            *((f"{{{pattern.pattern}}}", rule) for pattern, rule in self.patterns),
            ("{}", self.absent),
            ("{*}", self.default),
        )

    def shape(self, shapes: Shapes) -> Shape | None:
        usable: dict[str, Members] = {}
        for kind, rule in self.variants.items():
            members = rule.member_shapes(shapes)
            named = None if members is None else members.shapes.get(self.discriminator)
            if members is not None and named is not None and reader_of(named)(msgspec.json.encode(kind)):
                usable[kind] = members
        return variant_of(usable, self.discriminator) if usable else None
