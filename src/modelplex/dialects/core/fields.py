"""Rows of a request body: one `Field` for each member that a dialect has.

A `FieldTable` is made of a dialect's rows at import. By the same rows it decodes a client's body,
writes a provider's body, and gives the sealed policy its allow-list; reports name the member that
was present. A member that is not a plain value has a row too, and a function of the dialect reads
and writes it. Imports no dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import Change
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.ledger import GROUPS, Ledger
from modelplex.dialects.core.members import decode_member
from modelplex.policy.containers import ObjectRule
from modelplex.policy.walk import ValueRule

READ_BEFORE = frozenset({"model", "stream", "include_usage"})
"""Leaves that `raw_request` has read."""
WHOLE = frozenset({"reasoning", "format"})
"""Groups that are reported as a whole, at their object or at the first member that was read."""
NOTHING = frozenset({b"", b"null"})
"""Raw values of members that count as absent."""
LONGEST_NOTHING = 4

Wanted = TypeVar("Wanted")
Raws = Mapping[str, msgspec.Raw]


class Field(msgspec.Struct, frozen=True, gc=False):
    """One member of a request body, or of an object in it.

    name     the member
    policy   what the sealed policy does with it
    leaf     the leaf of ChatRequest that holds it ("sampling.top_k"), or the group that the members
             of an object belong to. "" where there is none: the member goes unread to a provider of
             the same dialect, and is reported as lost elsewhere. Of several members with one leaf
             the first row that is present counts; another value of the others is reported as lost
    type     the type of a plain value, which the table decodes. None: a function of the dialect
             reads the member
    read     converts the decoded value. None is absent; ValueError(reason) becomes a BadRequest
    writes   whether the table writes the leaf to this member, or a function of the dialect does
    most     the largest value that providers take, or the longest list. More is cut and reported
    rides    a value that loses to another member of its leaf goes unread to a provider of the same
             dialect
    foreign  what values that came in a dialect of another kin are called here; others are not
             written. None: values mean the same everywhere
    inside   the rows of an object's members
    """

    name: str
    policy: ValueRule
    leaf: str = ""
    type: Any = None
    read: Callable[[Any], Any] | None = None
    writes: bool = True
    most: float | None = None
    rides: bool = False
    foreign: Mapping[str, object] | None = None
    inside: tuple[Field, ...] = ()


def unread(names: str, policy: ValueRule) -> tuple[Field, ...]:
    """Rows of members that have no leaf and are judged alike."""
    return tuple(Field(name, policy) for name in names.split())


def rows_of(rules: Mapping[str, ValueRule]) -> tuple[Field, ...]:
    """Rows of members that have no leaf."""
    return tuple(Field(name, rule) for name, rule in rules.items())


def rules_of(rows: Iterable[Field], respell: Callable[[str], str] | None = None) -> dict[str, ValueRule]:
    """The sealed policy's allow-list of these rows; with their other spellings too."""
    rules = {row.name: row.policy for row in rows}
    return rules if respell is None else rules | {respell(name): rule for name, rule in rules.items()}


def texts(value: str | list[str]) -> tuple[str, ...]:
    """One text or a list of them, as a `read` of stop sequences."""
    return (value,) if isinstance(value, str) else tuple(value)


class FieldValues:
    """The members of one body, read by the rows of its dialect.

    groups   values of leaves, by group and name; the group of the request's own leaves is ""
    special  members that a function of the dialect reads, by their path from the top
    extra    members that have no leaf, by their path
    paths    where each leaf stands in the body
    changes  values that were lost to another member of their leaf
    """

    __slots__ = ("changes", "extra", "groups", "paths", "ranks", "special")

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Any]] = {}
        self.special: dict[str, msgspec.Raw] = {}
        self.extra: dict[str, msgspec.Raw] = {}
        self.paths: dict[str, str] = {}
        self.ranks: dict[str, int] = {}
        self.changes: list[Change] = []

    def take(self, name: str) -> msgspec.Raw | None:
        """A special member. One that is not taken rides along."""
        return self.special.pop(name, None)

    def decode(self, name: str, wanted: type[Wanted]) -> Wanted | None:
        """A special member, typed. Raises BadRequest."""
        raw = self.special.pop(name, None)
        return None if raw is None else decode_member(raw, wanted, path=name)

    def get(self, leaf: str) -> Any:
        group, _, key = leaf.rpartition(".")
        return self.groups.get(group, {}).get(key)

    def set(self, leaf: str, value: object, *, path: str) -> None:
        """Set a leaf that a function of the dialect read at this path."""
        group, _, key = leaf.rpartition(".")
        self.groups.setdefault(group, {})[key] = value
        self.paths[leaf] = path
        if group in WHOLE:
            self.paths.setdefault(group, path)

    def members(self) -> dict[str, Any]:
        """The members of a request that were read."""
        members: dict[str, Any] = {
            group: GROUPS[group](**leaves) for group, leaves in self.groups.items() if group and leaves
        }
        members |= self.groups.get("", {})
        members["extra"] = self.extra | self.special if self.special else self.extra
        members["paths"] = self.paths
        members["changes"] = tuple(self.changes)
        return members


class _Reader:
    """A row, prepared for reading."""

    __slots__ = (
        "convert",
        "decode",
        "group",
        "key",
        "kind",
        "leaf",
        "name",
        "rank",
        "rides",
        "table",
        "type",
    )

    def __init__(self, row: Field, table: FieldTable | None, rank: int) -> None:
        self.name, self.leaf, self.type, self.convert = row.name, row.leaf, row.type, row.read
        self.group, _, self.key = row.leaf.rpartition(".")
        self.table, self.rank, self.rides = table, rank, row.rides
        self.decode: Any = None
        self.kind: Literal["before", "object", "plain", "extra", "special"] = "special"
        if row.leaf in READ_BEFORE:
            self.kind = "before"
        elif table is not None:
            self.kind = "object"
        elif row.type is not None:
            self.kind = "plain"
            self.decode = None if row.type is msgspec.Raw else msgspec.json.Decoder(row.type).decode
        elif not row.leaf:
            self.kind = "extra"

    def value(self, raw: msgspec.Raw, path: str) -> Any:
        """The value of a plain member. Raises BadRequest."""
        if self.decode is None:
            return raw
        try:
            value = self.decode(raw)
            return value if self.convert is None else self.convert(value)
        except MALFORMED:
            if get_origin(self.type) is Literal:
                reason = f"must be one of {', '.join(get_args(self.type))}"
                raise BadRequest(f"'{path}' {reason}.", param=path) from None
            return decode_member(raw, self.type, path=path)
        except ValueError as reason:
            raise BadRequest(f"'{path}' {reason}.", param=path) from None

    def add(self, values: FieldValues, raw: msgspec.Raw, path: str) -> None:
        """Read a plain member. Of two members of one leaf the value of the first row counts."""
        value, leaf = self.value(raw, path), self.leaf
        if value is None:
            return
        leaves = values.groups.setdefault(self.group, {})
        if leaf in values.ranks:
            held, held_at = leaves[self.key], values.paths[leaf]
            is_first = self.rank < values.ranks[leaf]
            if value != held:
                loser, lost_at, used = (held, held_at, path) if is_first else (value, path, held_at)
                if self.rides:
                    values.extra[lost_at] = msgspec.Raw(msgspec.json.encode(loser))
                else:
                    values.changes.append(Change("drop", lost_at, f"'{used}' is used instead"))
            if not is_first:
                return
        values.ranks[leaf] = self.rank
        values.paths[leaf] = path
        leaves[self.key] = value
        if self.group in WHOLE:
            values.paths.setdefault(self.group, path)


_ranks = count()


class FieldTable:
    """The rows of one body, or of one object in it.

    policy   the sealed policy's rule of a body with these rows
    kin      dialects whose values mean the same as here; see `Field.foreign`
    reasons  why a leaf without a row is dropped, where a plain reason is not enough
    spell    the canonical spelling of a member's name, where a dialect takes several
    respell  the other spelling of a row's name
    """

    def __init__(
        self,
        rows: tuple[Field, ...],
        *,
        kin: frozenset[str] = frozenset(),
        reasons: Mapping[str, str] | None = None,
        spell: Callable[[str], str] | None = None,
        respell: Callable[[str], str] | None = None,
    ) -> None:
        self.rows = rows
        self.policy = ObjectRule(rules_of(rows, respell))
        self.kin = kin
        self.reasons = reasons or {}
        self._spell = spell
        self._respell = respell
        self._readers: dict[str, _Reader] = {}
        self._writes: dict[str, Field] = {}
        self.objects: dict[str, FieldTable] = {}
        if len(rows) != len({row.name for row in rows}):
            raise ValueError(f"a member has two rows: {sorted(row.name for row in rows)}")
        for row in rows:
            rank = next(_ranks)
            if row.inside:
                self.objects[row.name] = FieldTable(row.inside, kin=kin, spell=spell, respell=respell)
            reader = self._readers[row.name] = _Reader(row, self.objects.get(row.name), rank)
            if respell is not None:
                self._readers[respell(row.name)] = reader
            if row.type is not None and row.writes:
                self._writes.setdefault(row.leaf, row)

    def __repr__(self) -> str:
        return f"<FieldTable {len(self.rows)} rows>"

    def members_of(self, leaf: str) -> tuple[str, ...]:
        """The names of the members with this leaf, in the order of the rows, in every spelling."""
        names = [row.name for row in self.rows if row.leaf == leaf]
        other = [] if self._respell is None else [self._respell(name) for name in names]
        return tuple(dict.fromkeys([*names, *other]))

    def leaf_of(self, path: str) -> str:
        """The leaf of a member, in any spelling; "" where it has none."""
        name, _, rest = path.partition(".")
        reader = self._readers.get(name)
        if rest:
            return self.objects[name].leaf_of(rest) if name in self.objects else ""
        return "" if reader is None else reader.leaf

    def read(self, given: Raws) -> FieldValues:
        """The members of a body. Raises BadRequest that names the member."""
        values = FieldValues()
        self.read_into(given, values, "", "")
        return values

    def read_into(self, given: Raws, values: FieldValues, at: str, key: str) -> None:
        """`at` is the path of the object as the client spelt it, `key` its canonical path."""
        find, spell = self._readers.get, self._spell
        for name, raw in given.items():
            if len(raw) <= LONGEST_NOTHING and bytes(raw) in NOTHING:
                continue
            reader = find(name)
            if reader is not None and reader.kind == "plain":
                reader.add(values, raw, at + name)
            elif reader is None or reader.kind == "extra":
                canonical = key + (name if spell is None else spell(name))
                values.extra[canonical] = raw
                if spell is not None and canonical != at + name:
                    values.paths[canonical] = at + name
            elif reader.kind == "object":
                self._read_object(reader, raw, values, at + name, key + reader.name)
            elif reader.kind == "special":
                values.special[key + reader.name] = raw
                leaf = reader.leaf
                if not reader.group and reader.rank < values.ranks.get(leaf, reader.rank + 1):
                    values.ranks[leaf], values.paths[leaf] = reader.rank, at + name

    @staticmethod
    def _read_object(reader: _Reader, raw: msgspec.Raw, values: FieldValues, at: str, key: str) -> None:
        assert reader.table is not None
        inner = decode_member(raw, dict[str, msgspec.Raw], path=at)
        reader.table.read_into(inner, values, f"{at}.", f"{key}.")
        if reader.leaf:
            values.paths[reader.leaf] = at

    def write(self, ledger: Ledger, body: dict[str, Any]) -> None:
        """Write the leaves that have a plain row and were not taken yet."""
        is_kin = ledger.dialect in self.kin
        find = self._writes.get
        for leaf, value in [*ledger.open.items()]:
            if (row := find(leaf)) is None:
                continue
            if is_kin or (row.foreign is None and row.most is None):
                body[row.name] = value
                del ledger.open[leaf]
            elif row.foreign is None:
                body[row.name] = _cut(ledger, row, value)
            elif row.foreign and value in row.foreign:
                body[row.name] = row.foreign[ledger.take(leaf)]

    def put_back(self, body: dict[str, Any], extra: Raws) -> None:
        """Write members that rode along where they stood. What was written already stays."""
        for path, raw in extra.items():
            name, _, rest = path.partition(".")
            inner = self.objects.get(name) if rest else None
            if inner is None:
                body.setdefault(path, raw)
                continue
            holder = body.setdefault(name, {})
            if isinstance(holder, dict):
                inner.put_back(cast("dict[str, Any]", holder), {rest: raw})


def _cut(ledger: Ledger, row: Field, value: Any) -> Any:
    """The value as far as the row takes it."""
    ledger.take(row.leaf)
    assert row.most is not None
    if not isinstance(value, tuple):
        if value <= row.most:
            return value
        ledger.clamp(row.leaf, f"at most {row.most:g} is taken")
        return row.most
    entries = cast("tuple[object, ...]", value)
    if len(entries) > row.most:
        ledger.clamp(row.leaf, f"at most {row.most:g} are taken")
    return entries[: int(row.most)]
