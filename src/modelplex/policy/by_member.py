"""The walk over a body member by member. What has an accepted shape is not walked, what was walked
before with the same outcome is remembered, and only the rest is decoded in full.

The outcome is that of a walk over the whole body. Where it would be a refusal, or where a body is
written so that its members cannot be told apart safely, there is none, and the whole body is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from modelplex.policy.accepted_types import (
    LIST,
    NULL,
    OBJECT,
    REFUSED,
    TEXT,
    Accepts,
    Shape,
    Shapes,
    first_byte,
    reader_of,
)
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule
from modelplex.policy.large_list import LargeList
from modelplex.policy.path import Path
from modelplex.policy.strict_json import NO_SPACES, is_utf8, read_value
from modelplex.policy.verdict import Facts
from modelplex.policy.walk import MAX_EDITS, Edit, PolicyRefusal, PolicyWalk, ValueRule

Members = Mapping[str, msgspec.Raw]
SHORTEST_REMEMBERED = 48
LONGEST_REMEMBERED = 131_072
"""Bytes of a member whose outcome is remembered: the tools of an agent, which each of its requests
repeats.
"""
MAX_REMEMBERED = 256
MAX_SIZE_REMEMBERED = 4_194_304
"""How many members are remembered for a table, and their bytes in all. Agents with the same tools
share them.
"""
MAX_EDITS_REMEMBERED = 100
READ_AT_ONCE = 4_194_304
"""Bytes of a list, or of a body with white space, that are read in one call, in which no other
thread runs: 2 ms.
"""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


class _Outcome(msgspec.Struct, frozen=True):
    """What a walk over the member `text` alone leads to."""

    text: bytes
    edits: tuple[Edit, ...]
    stripped_tools: dict[str, str]

    @property
    def may_come_again(self) -> bool:
        """Whether it is the same for every caller; each has another identity."""
        return len(self.edits) <= MAX_EDITS_REMEMBERED and all(e.rule != "identity" for e in self.edits)

    def add_to(self, walk: PolicyWalk, path: Path) -> None:
        if len(walk.edits) + len(self.edits) > MAX_EDITS:
            raise PolicyRefusal("unknown-field", path, "too-many-here")
        walk.edits += self.edits
        walk.stripped_tools |= self.stripped_tools


def _outcome(facts: Facts, rule: ValueRule, raw: msgspec.Raw, path: Path) -> _Outcome:
    walk = PolicyWalk(facts)
    _apply(walk, rule, read_value(raw, path, nesting=1), path)
    return _Outcome(bytes(raw), tuple(walk.edits), walk.stripped_tools)


class _Rule(msgspec.Struct, frozen=True):
    """The rule of a member. `accepts` reads its JSON; `entry` and the readers after it are of its
    entries, where it may be a list whose entries are walked one by one.
    """

    rule: ValueRule
    accepts: Accepts | None
    entry: ValueRule | None = None
    accepts_entries: Accepts | None = None
    accepts_entry: Accepts | None = None


class DecodedMembers(Mapping[str, Any]):
    """The top level of a body, each member decoded when it is asked for."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def __getitem__(self, name: str) -> Any:
        return _decode(self._members[name])

    def get(self, name: str, default: Any = None) -> Any:
        raw = self._members.get(name)
        return default if raw is None else _decode(raw)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


class MemberWalk:
    """Walks bodies by the rule of their top level, which keeps an object without members."""

    __slots__ = ("_outcomes", "_rules", "_size", "_top")

    def __init__(self, top: ObjectRule) -> None:
        assert top.when_empty == "keep"
        self._top = top
        self._rules: dict[str, _Rule] = {}
        self._outcomes: dict[tuple[object, ...], _Outcome] = {}
        self._size = 0

    def __call__(self, walk: PolicyWalk, body: bytes, fields: Members | None) -> DecodedMembers | None:
        """The members, once the walk has what is to be edited, or None where the whole body has to
        be read. `fields` are the members of the body, if they are known.
        """
        try:
            members = _told_apart(body, fields)
            if members is None or not is_utf8(body):
                return None
            for name, raw in members.items():
                self._walk_member(walk, name, raw)
        except (PolicyRefusal, *REFUSED):
            return None
        return DecodedMembers(members)

    def _walk_member(self, walk: PolicyWalk, name: str, raw: msgspec.Raw) -> None:
        found = self._rules.get(name) or self._rule(name)
        first = first_byte(raw)
        if _PLAIN.get(first) in found.rule.allowed_types:
            return
        path: Path = (None, name)
        if first == LIST and found.entry is not None:
            if found.accepts is None or len(raw) > READ_AT_ONCE or not found.accepts(raw):
                _walk_entries(walk, found, raw, path)
        elif first != LIST and first != OBJECT:  # noqa: PLR1714 - a comparison is faster than a hash
            _apply(walk, found.rule, _decode(raw), path)
        elif walk.facts.bounds or not SHORTEST_REMEMBERED <= len(raw) <= LONGEST_REMEMBERED:
            # Bounds count the tools of the whole body.
            if found.accepts is None or not found.accepts(raw):
                _apply(walk, found.rule, read_value(raw, path, nesting=1), path)
        else:
            self._walk_remembered(walk, found, raw, path)

    def _walk_remembered(self, walk: PolicyWalk, found: _Rule, raw: msgspec.Raw, path: Path) -> None:
        facts = walk.facts
        key = (path, len(raw), facts.allowed, facts.models, facts.own_model)
        known = self._outcomes.get(key)
        if known is not None and known.text == bytes(raw):
            known.add_to(walk, path)
        elif found.accepts is None or not found.accepts(raw):
            outcome = _outcome(facts, found.rule, raw, path)
            outcome.add_to(walk, path)
            if found.rule is not self._top.default and outcome.may_come_again:
                self._remember(key, outcome)

    def _remember(self, key: tuple[object, ...], outcome: _Outcome) -> None:
        self._size += len(outcome.text)
        if len(self._outcomes) >= MAX_REMEMBERED or self._size > MAX_SIZE_REMEMBERED:
            self._outcomes.clear()
            self._size = len(outcome.text)
        self._outcomes[key] = outcome

    def _rule(self, name: str) -> _Rule:
        """The rule of a member of the table, made when a body first has it; unknown names are not
        kept.
        """
        rule = self._top.fields.get(name)
        if rule is None:
            return _Rule(self._top.default, None)
        entry, shapes = _entry_of(rule), Shapes()
        self._rules[name] = found = _Rule(
            rule,
            _reader(shapes.of(rule)),
            entry,
            None if entry is None else _reader(shapes.of(ListRule(entry))),
            None if entry is None else _reader(shapes.of(entry)),
        )
        return found


_PLAIN: Mapping[tuple[bytes], type] = {TEXT: str, (b"t",): bool, (b"f",): bool, NULL: type(None)}
"""The Python type of a value that needs no decoding, by its first byte."""


def _reader(shape: Shape | None) -> Accepts | None:
    return None if shape is None else reader_of(shape)


def _entry_of(rule: ValueRule) -> ValueRule | None:
    """The rule of the entries of a list that stays when they are removed."""
    items = rule.items if isinstance(rule, UnionRule) else rule
    return items.entry if isinstance(items, ListRule) and items.when_empty == "keep" else None


def _told_apart(body: bytes, fields: Members | None) -> Members | None:
    """The members of a body, if none appears twice."""
    members = _members(body) if fields is None else fields
    if _holds_only(body, members):
        return members
    if len(body) > READ_AT_ONCE:
        return None
    compact = msgspec.json.format(body, indent=NO_SPACES)
    members = _members(compact)
    return members if _holds_only(compact, members) else None


def _holds_only(body: bytes, members: Members) -> bool:
    """Whether the body is as long as these members written once, without white space. A name may
    take more bytes than it has characters, and then it does not fit.
    """
    marks = len('"":,')
    return len(body) == (sum(map(len, members)) + sum(map(len, members.values())) + marks * len(members) + 1)


def _apply(walk: PolicyWalk, rule: ValueRule, value: Any, path: Path) -> None:
    kind = cast("type[object]", type(value))
    if kind is LargeList and not rule.takes_large_lists:
        value, kind = list(value), list
    if kind not in rule.allowed_types and not (kind is str and value in rule.allowed_words):
        rule(walk, value, path)


def _walk_entries(walk: PolicyWalk, found: _Rule, raw: msgspec.Raw, path: Path) -> None:
    """Walk the entries of a list whose shapes are not accepted."""
    assert found.entry is not None
    at_once, size, start = len(raw) > READ_AT_ONCE, 0, 0
    entries = _entries(raw)
    for end, entry in enumerate(entries, 1):
        size += len(entry)
        if size < READ_AT_ONCE and end < len(entries):
            continue
        batch = entries[start:end]
        accepts = found.accepts_entries if at_once and size < 2 * READ_AT_ONCE else None
        if accepts is None or not accepts(b"[%b]" % b",".join(map(memoryview, batch))):
            for index, each in enumerate(batch, start):
                # A long text is copied to be accepted, and once more in a list.
                is_long = len(each) > READ_AT_ONCE
                if is_long or found.accepts_entry is None or not found.accepts_entry(each):
                    here: Path = (path, index)
                    _apply(walk, found.entry, read_value(each, here, nesting=2), here)
        size, start = 0, end
