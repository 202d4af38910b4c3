"""The walk over a body by its dialect's table: the few kinds of check that all tables are made of.

Above it stand the tables and the judge; below it paths and rules. A table says for every member what looks at it, and None for what is opaque: text, a tool's arguments, a JSON
Schema. Nothing is found by searching text. A check changes nothing: it notes edits, which are made afterwards, or raises Refused.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import msgspec

from modelplex.policy._path import Path
from modelplex.policy.verdict import Facts

Check = Callable[["Walk", Any, Path], None]
Node = Check | None
"""What looks at a value; None where the value is opaque."""
Json = dict[str, Any]
WhenEmpty = Literal["keep", "drop", "parent"]
"""What becomes of a list that lost all its entries: it stays, it goes, or what holds it goes."""

HASH_PREFIX = "mpx-"
HASH_LENGTH = 32
"""Hex digits of a keyed hash: 128 bits, and below the 64 characters that OpenAI takes."""
DATA_URL = re.compile(r"data:[\w.+-]*(?:/[\w.+-]+)?(?:;[\w.+-]+(?:=[\w.+-]+)?)*,")
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\r\n"
BASE64_STEP = 4


class _Gone:
    """The value of an edit that takes a member away."""


GONE = _Gone()


class Edit(msgspec.Struct, frozen=True):
    """`rule` is "" for what follows from another edit, and is not told again."""

    path: Path
    rule: str
    value: Any = GONE


class Refused(Exception):
    def __init__(self, rule: str, path: Path) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path = path


class Walk:
    """What one walk found: edits, and which tools are lost."""

    __slots__ = ("edits", "facts", "lost")

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.edits: list[Edit] = []
        self.lost: dict[str, str] = {}
        """Names of stripped tools, and the rules they were stripped by."""

    def open(self, rule: str) -> bool:
        return rule in self.facts.allowed

    def strip(self, path: Path, rule: str) -> None:
        self.edits.append(Edit(path, rule))

    def write(self, path: Path, rule: str, value: Any) -> None:
        self.edits.append(Edit(path, rule, value))

    def follow(self, path: Path) -> None:
        """Takes away what is nothing without what was taken away before."""
        self.edits.append(Edit(path, ""))

    def refuse(self, path: Path, rule: str) -> None:
        """Raises Refused, unless the rule is open."""
        if rule not in self.facts.allowed:
            raise Refused(rule, path)

    def is_gone(self, path: Path, since: int) -> bool:
        """Whether an edit since then takes this very entry away. `path` is the object that its check was given."""
        return any(edit.path is path and edit.value is GONE for edit in self.edits[since:])


# --- verdicts on a value -------------------------------------------------------------------------------------------------------------------------------------------------------


class Gone:
    """Stripped. Where its rule is open, `inside` looks at it."""

    __slots__ = ("inside", "rule")

    def __init__(self, rule: str, inside: Node = None) -> None:
        self.rule = rule
        self.inside = inside

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if not walk.open(self.rule):
            walk.strip(path, self.rule)
        elif self.inside is not None:
            self.inside(walk, value, path)


class Never:
    """Refused, unless it says nothing: null, an empty list, or one of `harmless`. Where its rule is open, `inside` looks at it."""

    __slots__ = ("harmless", "inside", "rule")

    def __init__(self, rule: str, inside: Node = None, *, harmless: tuple[object, ...] = ()) -> None:
        self.rule = rule
        self.inside = inside
        self.harmless = harmless

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if value is None or value == [] or any(value is quiet for quiet in self.harmless):
            return
        walk.refuse(path, self.rule)
        if self.inside is not None:
            self.inside(walk, value, path)


class Said:
    """Overwritten with `value`, unless that is what it says."""

    __slots__ = ("rule", "value")

    def __init__(self, rule: str, value: object) -> None:
        self.rule = rule
        self.value = value

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if value is not self.value and not walk.open(self.rule):
            walk.write(path, self.rule, self.value)


class Unless:
    """As `check` says, unless the value is this very one (False, for instance)."""

    __slots__ = ("check", "harmless")

    def __init__(self, harmless: object, check: Check) -> None:
        self.harmless = harmless
        self.check = check

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if value is not None and value is not self.harmless:
            self.check(walk, value, path)


class Hashed:
    """Overwritten with a keyed hash: of the agent, or of the agent and the value."""

    __slots__ = ("of_value", "purpose")

    def __init__(self, purpose: str, *, of_value: bool = False) -> None:
        self.purpose = purpose
        self.of_value = of_value

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if value is None or walk.open("identity"):
            return
        said = msgspec.json.encode(value) if self.of_value else b""
        walk.write(path, "identity", keyed_hash(walk.facts, self.purpose, said))


def keyed_hash(facts: Facts, purpose: str, said: bytes = b"") -> str:
    """`mpx-` and 32 hex digits: one value for one agent (and what it said), and nothing to anybody without the key."""
    message = b"\0".join((purpose.encode(), str(len(facts.agent)).encode(), facts.agent.encode(), said))
    return HASH_PREFIX + hmac.digest(facts.secret, message, "sha256").hex()[:HASH_LENGTH]


def inline(walk: Walk, value: Any, path: Path) -> None:
    """Passes a data: URL and refuses every other string, however it is disguised."""
    if value is not None and not (isinstance(value, str) and DATA_URL.match(value)):
        walk.refuse(path, "remote-url")


def inline_bytes(walk: Walk, value: Any, path: Path) -> None:
    """Passes base64 and data: URLs."""
    if value is not None and not (isinstance(value, str) and (_is_base64(value) or DATA_URL.match(value))):
        walk.refuse(path, "remote-url")


def _is_base64(value: str) -> bool:
    """Padded, as every SDK writes it: most bare paths are not. Two slashes begin base64 as well, but of no document; they begin the name of a host."""
    if value.startswith("//") or not value.isascii() or value.encode().translate(None, BASE64):
        return False
    return len(value) % BASE64_STEP == 0 or "\n" in value


def known_model(walk: Walk, value: Any, path: Path) -> None:
    """Refuses the name of a model that the caller may not use."""
    models = walk.facts.models
    if value is None or not models:
        return
    if not isinstance(value, str) or not any(fnmatchcase(value, pattern) for pattern in models):
        walk.refuse(path, "unlisted-model")


def unknown_form(walk: Walk, _: Any, path: Path) -> None:
    walk.refuse(path, "unknown-form")


# --- structure -----------------------------------------------------------------------------------------------------------------------------------------------------------------

UNKNOWN_FIELD = Gone("unknown-field")
UNKNOWN_PART = Never("unknown-part")


class Members:
    """An object, its members judged by name. `otherwise` looks at those without a name here."""

    __slots__ = ("fields", "otherwise", "when_empty")

    def __init__(
        self,
        fields: Mapping[str, Node],
        *,
        otherwise: Node = UNKNOWN_FIELD,
        when_empty: Literal["keep", "drop"] = "keep",
    ) -> None:
        self.fields = dict(fields)
        self.otherwise = otherwise
        self.when_empty = when_empty

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            if value is not None:
                walk.refuse(path, "unknown-form")
            return
        find, otherwise = self.fields.get, self.otherwise
        if self.when_empty == "drop":
            self._judge_all(walk, cast("Json", value), path)
            return
        for key, member in cast("Json", value).items():
            check = find(key, otherwise)
            if check is not None:
                check(walk, member, (path, key))

    def _judge_all(self, walk: Walk, value: Json, path: Path) -> None:
        left = len(value)
        for key, member in value.items():
            check = self.fields.get(key, self.otherwise)
            if check is not None:
                since, here = len(walk.edits), (path, key)
                check(walk, member, here)
                left -= walk.is_gone(here, since)
        if value and not left:
            walk.follow(path)


class Each:
    """A list, each of whose entries is judged alike."""

    __slots__ = ("check", "when_empty")

    def __init__(self, check: Check, *, when_empty: WhenEmpty = "keep") -> None:
        self.check = check
        self.when_empty = when_empty

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if not isinstance(value, list):
            if value is not None:
                walk.refuse(path, "unknown-form")
            return
        entries = cast("list[Any]", cast("object", value))
        left = len(entries)
        for index, entry in enumerate(entries):
            here, since = (path, index), len(walk.edits)
            self.check(walk, entry, here)
            if len(walk.edits) > since and walk.is_gone(here, since):
                left -= 1
        if entries and not left and self.when_empty != "keep":
            walk.follow(path if self.when_empty == "drop" or path is None else path[0])


class Forms:
    """A value that may be a string, a list or an object; a form without a check is not the dialect's."""

    __slots__ = ("items", "members", "text")

    def __init__(
        self, *, text: Node = unknown_form, items: Node = unknown_form, members: Node = unknown_form
    ) -> None:
        self.text = text
        self.items = items
        self.members = members

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if value is None:
            return
        check: Node = unknown_form
        if isinstance(value, str):
            check = self.text
        elif isinstance(value, list):
            check = self.items
        elif isinstance(value, dict):
            check = self.members
        if check is not None:
            check(walk, value, path)


class Kinds:
    """An object judged by what one member calls it. `absent` looks at those that do not say; `families` are beginnings of names, for what is dated."""

    __slots__ = ("absent", "by", "families", "kinds", "otherwise")

    def __init__(
        self,
        kinds: Mapping[str, Node],
        *,
        by: str = "type",
        absent: Node = UNKNOWN_PART,
        otherwise: Node = UNKNOWN_PART,
        families: Iterable[tuple[str, Node]] = (),
    ) -> None:
        self.kinds = dict(kinds)
        self.by = by
        self.absent = absent
        self.otherwise = otherwise
        self.families = tuple(families)

    def of(self, kind: object) -> Node:
        """What looks at an object of that kind."""
        if kind is None:
            return self.absent
        if not isinstance(kind, str):
            return unknown_form
        if kind in self.kinds:
            return self.kinds[kind]
        for beginning, check in self.families:
            if kind.startswith(beginning):
                return check
        return self.otherwise

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            walk.refuse(path, "unknown-form")
            return
        check = self.of(cast("Json", value).get(self.by))
        if check is not None:
            check(walk, value, path)
