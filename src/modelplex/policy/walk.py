"""The walk over a body by its dialect's table: verdicts on a value, and the structure around
values.

Above it stand the tables and the judge; below it paths and rules. A table names a Node for every
member that passes, and there is no Node for "anything": `leaves` has the types of single values.
Nothing is found by searching text. A Node changes nothing: it notes edits, which are made
afterwards, or raises Refused.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import msgspec

from modelplex.policy.bounds import Limit, limit_of
from modelplex.policy.model_names import rule_of_name
from modelplex.policy.path import Path
from modelplex.policy.rules import Short
from modelplex.policy.verdict import Facts

Json = dict[str, Any]
Judge = Callable[["PolicyWalk", Any, Path], None]
Inside = Iterable[tuple[str, "ValueRule"]]
"""The nodes that a node hands values to, each with the step to it. Tests follow them through every
table.
"""
WhenEmpty = Literal["keep", "drop", "parent"]
"""What becomes of a list that lost all its entries: it stays, it goes, or what holds it goes."""

RECENT_KINDS = 64
LONGEST_KIND = 64
"""What patterns said of a kind is remembered for so many kinds of so many characters: a list may
repeat one many thousand times.
"""
MAX_EDITS = 10_000
"""Parts that a body may lose. An agent may lose one in each message of a long session; an edit
costs some 10 microseconds, which a body of millions would hold everybody up with.
"""
HASH_PREFIX = "mpx-"
HASH_LENGTH = 32
"""Hex digits of a keyed hash: 128 bits, and below the 64 characters that OpenAI takes."""
DATA_URL = re.compile(r"data:[\w.+-]*+(?:/[\w.+-]++)?+(?:;[\w.+-]++(?:=[\w.+-]++)?+)*+,")
MAX_DATA_HEAD = 1_024
"""Characters of a data: URL before its data: a media type of at most 255 (RFC 4288), and a few
parameters. A longer one is not read.
"""
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


class PolicyRefusal(Exception):
    """`short` is what a bound of an opened rule lacks here, "" where the rule itself refuses."""

    def __init__(self, rule: str, path: Path, short: Short = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.path = path
        self.short: Short = short


class PolicyWalk:
    """What one walk found: edits, and which tools are lost."""

    __slots__ = ("counted", "edits", "facts", "held", "limits", "lost")

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.edits: list[Edit] = []
        self.limits: dict[str, Limit | None] = {}
        self.held: set[str] = set()
        """Rules of which a tool was found whose uses are counted."""
        self.counted: int | None = None
        """How often the provider may use tools of its own, where a form counts that at its top."""
        self.lost: dict[str, str] = {}
        """Names of stripped tools, and the rules they were stripped by."""

    def open(self, rule: str) -> bool:
        return rule in self.facts.allowed

    def limit(self, rule: str) -> Limit | None:
        """What bounds a rule that is open, or None."""
        if not self.facts.bounds:
            return None
        if rule not in self.limits:
            self.limits[rule] = limit_of(self.facts.bounds, rule)
        return self.limits[rule]

    def strip(self, path: Path, rule: str) -> None:
        self.write(path, rule, GONE)

    def write(self, path: Path, rule: str, value: Any) -> None:
        """Notes an edit. Raises Refused where there are more than anybody would read."""
        if len(self.edits) >= MAX_EDITS:
            raise PolicyRefusal(rule, path, "too-many-here")
        self.edits.append(Edit(path, rule, value))

    def follow(self, path: Path) -> None:
        """Takes away what is nothing without what was taken away before."""
        self.edits.append(Edit(path, ""))

    def refuse(self, path: Path, rule: str) -> None:
        """Raises Refused, unless the rule is open."""
        if rule not in self.facts.allowed:
            raise PolicyRefusal(rule, path)

    def is_gone(self, path: Path, since: int) -> bool:
        """Whether an edit since then takes this very entry away. `path` is the object that its
        check was given.
        """
        return any(edit.path is path and edit.value is GONE for edit in self.edits[since:])


class ValueRule:
    """The type of a value. A value whose Python type is in `passes`, or a string that is in
    `words`, passes without a call; all others are judged by calling the node.
    """

    __slots__ = ()
    passes: frozenset[type] = frozenset()
    words: frozenset[str] = frozenset()

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        raise NotImplementedError

    def inside(self) -> Inside:
        return ()


class CustomRule(ValueRule):
    """A function as a node. `to` are the nodes that the function hands values to."""

    __slots__ = ("judge", "to")

    def __init__(self, judge: Judge, *to: ValueRule) -> None:
        self.judge = judge
        self.to = to

    def __repr__(self) -> str:
        return f"Look({self.judge.__name__})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        self.judge(walk, value, path)

    def inside(self) -> Inside:
        return ((self.judge.__name__, node) for node in self.to)


class DeferredRule(ValueRule):
    """A node that is made below: content holds content."""

    __slots__ = ("find",)

    def __init__(self, find: Callable[[], ValueRule]) -> None:
        self.find = find

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        self.find()(walk, value, path)

    def inside(self) -> Inside:
        return (("", self.find()),)


class AnyValueRule(ValueRule):
    """Anything. It stands only inside a rule, and is reached only where the operator opened that
    rule.
    """

    __slots__ = ()
    passes = frozenset((dict, list, str, int, float, bool, type(None)))

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        walk.refuse(path, "unknown-form")


OPENED = AnyValueRule()

# --- verdicts on a value --------------------------------------------------------------------------


class StripRule(ValueRule):
    """Stripped. Where its rule is open, `opened` looks at it."""

    __slots__ = ("opened", "rule")

    def __init__(self, rule: str, opened: ValueRule = OPENED) -> None:
        self.rule = rule
        self.opened = opened

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not walk.open(self.rule):
            walk.strip(path, self.rule)
        elif type(value) not in self.opened.passes:
            self.opened(walk, value, path)

    def inside(self) -> Inside:
        return ((f"({self.rule})", self.opened),)


class RefuseRule(ValueRule):
    """Refused, unless it says nothing: null, an empty list, or one of `harmless`. Where its rule is
    open, `opened` looks at it.
    """

    __slots__ = ("harmless", "opened", "rule")

    def __init__(self, rule: str, opened: ValueRule = OPENED, *, harmless: tuple[object, ...] = ()) -> None:
        self.rule = rule
        self.opened = opened
        self.harmless = harmless

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is None or value == [] or any(value is quiet for quiet in self.harmless):
            return
        walk.refuse(path, self.rule)
        if type(value) not in self.opened.passes:
            self.opened(walk, value, path)

    def inside(self) -> Inside:
        return ((f"({self.rule})", self.opened),)


class OverwriteRule(ValueRule):
    """Overwritten with `value`, unless that is what it says."""

    __slots__ = ("rule", "value")

    def __init__(self, rule: str, value: object) -> None:
        self.rule = rule
        self.value = value

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is not self.value and not walk.open(self.rule):
            walk.write(path, self.rule, self.value)


class ExceptRule(ValueRule):
    """As `check` says, unless the value is this very one (False, for instance)."""

    __slots__ = ("check", "harmless")

    def __init__(self, harmless: object, check: ValueRule) -> None:
        self.harmless = harmless
        self.check = check

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is not None and value is not self.harmless:
            self.check(walk, value, path)

    def inside(self) -> Inside:
        return (("", self.check),)


class HashRule(ValueRule):
    """Overwritten with a keyed hash: of the agent, or of the agent and the value."""

    __slots__ = ("of_value", "purpose")

    def __init__(self, purpose: str, *, of_value: bool = False) -> None:
        self.purpose = purpose
        self.of_value = of_value

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if value is None or walk.open("identity"):
            return
        said = msgspec.json.encode(value) if self.of_value else b""
        walk.write(path, "identity", keyed_hash(walk.facts, self.purpose, said))


def keyed_hash(facts: Facts, purpose: str, said: bytes = b"") -> str:
    """`mpx-` and 32 hex digits: one value for one agent (and what it said), and nothing to anybody
    without the key.
    """
    message = b"\0".join((purpose.encode(), str(len(facts.agent)).encode(), facts.agent.encode(), said))
    return HASH_PREFIX + hmac.digest(facts.secret, message, "sha256").hex()[:HASH_LENGTH]


def _inline(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Passes a data: URL and refuses every other string, however it is disguised."""
    if value is not None and not (isinstance(value, str) and is_data_url(value)):
        walk.refuse(path, "remote-url")


def _inline_bytes(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Passes base64 and data: URLs."""
    if value is not None and not (isinstance(value, str) and (_is_base64(value) or is_data_url(value))):
        walk.refuse(path, "remote-url")


def is_data_url(value: str) -> bool:
    return DATA_URL.match(value, 0, MAX_DATA_HEAD) is not None


def _is_base64(value: str) -> bool:
    """Padded, as every SDK writes it: most bare paths are not. Two slashes begin base64 as well,
    but of no document; they begin the name of a host.
    """
    if value.lstrip("\r\n").startswith("//") or not value.isascii() or value.encode().translate(None, BASE64):
        return False
    return len(value) % BASE64_STEP == 0 or "\n" in value


def _known_model(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Refuses the name of a model that the caller may not use, or that reaches out by itself."""
    if value is None:
        return
    if not isinstance(value, str):
        walk.refuse(path, "unknown-form")
        return
    if (reaching := rule_of_name(value)) is not None:
        walk.refuse(path, reaching)
    models = walk.facts.models
    if models and not any(fnmatchcase(value, pattern) for pattern in models):
        walk.refuse(path, "unlisted-model")


def _unknown_form(walk: PolicyWalk, _: Any, path: Path) -> None:
    walk.refuse(path, "unknown-form")


inline = CustomRule(_inline)
inline_bytes = CustomRule(_inline_bytes)
known_model = CustomRule(_known_model)
unknown_form = CustomRule(_unknown_form)

# --- structure ------------------------------------------------------------------------------------

UNKNOWN_FIELD = StripRule("unknown-field")
UNKNOWN_PART = RefuseRule("unknown-part")


class ObjectRule(ValueRule):
    """An object, its members judged by name. `otherwise` looks at those without a name here."""

    __slots__ = ("fields", "otherwise", "when_empty")

    def __init__(
        self,
        fields: Mapping[str, ValueRule],
        *,
        otherwise: ValueRule = UNKNOWN_FIELD,
        when_empty: Literal["keep", "drop"] = "keep",
    ) -> None:
        self.fields = dict(fields)
        self.otherwise = otherwise
        self.when_empty = when_empty

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
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
            kind = cast("type[object]", type(member))
            if kind not in check.passes and not (kind is str and check.words and member in check.words):
                check(walk, member, (path, key))

    def _judge_all(self, walk: PolicyWalk, value: Json, path: Path) -> None:
        left = len(value)
        for key, member in value.items():
            check = self.fields.get(key, self.otherwise)
            if type(member) not in check.passes:
                since, here = len(walk.edits), (path, key)
                check(walk, member, here)
                left -= walk.is_gone(here, since)
        if value and not left:
            walk.follow(path)

    def inside(self) -> Inside:
        return (*((f".{key}", node) for key, node in self.fields.items()), (".*", self.otherwise))


class ListRule(ValueRule):
    """A list, each of whose entries is judged alike."""

    __slots__ = ("check", "when_empty")

    def __init__(self, check: ValueRule, *, when_empty: WhenEmpty = "keep") -> None:
        self.check = check
        self.when_empty = when_empty

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, list):
            if value is not None:
                walk.refuse(path, "unknown-form")
            return
        entries = cast("list[Any]", cast("object", value))
        left, check = len(entries), self.check
        for index, entry in enumerate(entries):
            if type(entry) in check.passes:
                continue
            here, since = (path, index), len(walk.edits)
            check(walk, entry, here)
            if len(walk.edits) > since and walk.is_gone(here, since):
                left -= 1
        if entries and not left and self.when_empty != "keep":
            walk.follow(path if self.when_empty == "drop" or path is None else path[0])

    def inside(self) -> Inside:
        return (("[]", self.check),)


class UnionRule(ValueRule):
    """A value that may be a string, a list, an object, or of one of the `plain` types; a form
    without a node is not the dialect's.
    """

    __slots__ = ("items", "members", "passes", "text")

    def __init__(
        self,
        *,
        text: ValueRule = unknown_form,
        items: ValueRule = unknown_form,
        members: ValueRule = unknown_form,
        plain: Iterable[type] = (),
    ) -> None:
        self.text = text
        self.items = items
        self.members = members
        self.passes = frozenset((type(None), *plain)) | (text.passes & {str})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        check: ValueRule = unknown_form
        if isinstance(value, str):
            check = self.text
        elif isinstance(value, list):
            check = self.items
        elif isinstance(value, dict):
            check = self.members
        if type(cast("object", value)) not in check.passes:
            check(walk, value, path)

    def inside(self) -> Inside:
        return (("", node) for node in (self.text, self.items, self.members))


class VariantRule(ValueRule):
    """An object judged by what one member calls it. `absent` looks at those that do not say.
    `families` are patterns of whole names, for what is dated.
    """

    __slots__ = ("absent", "by", "families", "kinds", "otherwise", "recent")

    def __init__(
        self,
        kinds: Mapping[str, ValueRule],
        *,
        by: str = "type",
        absent: ValueRule = UNKNOWN_PART,
        otherwise: ValueRule = UNKNOWN_PART,
        families: Iterable[tuple[str, ValueRule]] = (),
    ) -> None:
        self.kinds = dict(kinds)
        self.by = by
        self.absent = absent
        self.otherwise = otherwise
        self.families = tuple((re.compile(pattern), node) for pattern, node in families)
        self.recent: dict[str, ValueRule] = {}

    def of(self, kind: object) -> ValueRule:
        """What looks at an object of that kind."""
        if kind is None:
            return self.absent
        if not isinstance(kind, str):
            return unknown_form
        if kind in self.kinds:
            return self.kinds[kind]
        known = self.recent.get(kind)
        if known is None:
            known = next((check for family, check in self.families if family.fullmatch(kind)), self.otherwise)
            if len(self.recent) < RECENT_KINDS and len(kind) <= LONGEST_KIND:
                self.recent[kind] = known
        return known

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            walk.refuse(path, "unknown-form")
            return
        self.of(cast("Json", value).get(self.by))(walk, value, path)

    def inside(self) -> Inside:
        return (
            *((f"{{{kind}}}", node) for kind, node in self.kinds.items()),
            *((f"{{{family.pattern}}}", node) for family, node in self.families),
            ("{}", self.absent),
            ("{*}", self.otherwise),
        )
