"""The types of single values that pass: text, numbers, flags, known words, bounded patterns, JSON
Schemas, and the few values that are opaque JSON.

Above it stand the tables; below it the walk. Every member of a table that passes ends in one of
these. A value of another shape is refused (`unknown-form`); a word that is not known is stripped
(`unknown-value`).
"""

from __future__ import annotations

import re
from typing import Any, cast

from modelplex.policy.path import Path
from modelplex.policy.walk import Inside, Json, ObjectRule, PolicyWalk, ValueRule

_NULL = type(None)

# --- plain values ---------------------------------------------------------------------------------


class PlainRule(ValueRule):
    """A value of one of these Python types, or null. It is told apart by its type alone, and not
    read.
    """

    __slots__ = ("passes", "what")

    def __init__(self, what: str, *types: type) -> None:
        self.what = what
        self.passes = frozenset((*types, _NULL))

    def __repr__(self) -> str:
        return f"Plain({self.what})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        walk.refuse(path, "unknown-form")


TEXT = PlainRule("words for the model or from it", str)
NAME = PlainRule("a name that the client or the model chose", str)
ID = PlainRule("an id that ties parts of this request together", str)
SEALED = PlainRule("state that the client carries: a signature, or ciphertext", str)
KIND = PlainRule("a type that decided which table this is", str)
MODEL = PlainRule("the model: the gateway writes it, and judges it by its name", str)
FLAG = PlainRule("a switch", bool)
NUMBER = PlainRule("a number", int, float)
SCALAR = PlainRule("a number, a switch or a word", str, int, float, bool)


class DataUrlRule(ValueRule):
    """Opaque JSON that a provider reads and does nothing with. Each one is reviewed: tests list
    them by `why`.
    """

    __slots__ = ("passes", "why")

    def __init__(self, why: str, *types: type) -> None:
        self.why = why
        self.passes = frozenset((*types, _NULL))

    def __repr__(self) -> str:
        return f"Data({self.why})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        walk.refuse(path, "unknown-form")


ARGUMENTS = DataUrlRule(
    "arguments of a tool call: the model wrote them, the client reads them", dict, list, str
)
RESULT = DataUrlRule("what a client's function returned", dict, list, str, int, float, bool)
EXAMPLES = DataUrlRule("examples of a tool's arguments", dict, list)
LABELLED = DataUrlRule("metadata of a part, which Gemini documents as inert", dict)
PARSED = DataUrlRule("what an SDK read out of the text beside it", dict, list, str, int, float, bool)

# --- words and patterns ---------------------------------------------------------------------------


class EnumRule(ValueRule):
    """One of these words. Any other is stripped; or refused where `must`, because the value says
    what its object is.
    """

    __slots__ = ("must", "passes", "words")

    def __init__(self, words: str, *, must: bool = False) -> None:
        self.words = frozenset(words.split())
        self.must = must
        self.passes = frozenset({_NULL})

    def __repr__(self) -> str:
        return f"Words({' '.join(sorted(self.words))})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, str):
            walk.refuse(path, "unknown-form")
        elif value not in self.words:
            if self.must:
                walk.refuse(path, "unknown-part")
            elif not walk.open("unknown-value"):
                walk.strip(path, "unknown-value")


class PatternRule(ValueRule):
    """A string that a bounded pattern matches as a whole, or a value of one of the `plain` types.
    Any other string is stripped.
    """

    __slots__ = ("fits", "passes", "pattern", "words")

    def __init__(self, pattern: str, *plain: type, usual: str = "") -> None:
        """`usual` words fit the pattern, and pass without a look."""
        self.pattern = pattern
        self.fits = re.compile(pattern).fullmatch
        self.words = frozenset(usual.split())
        self.passes = frozenset((*plain, _NULL))

    def __repr__(self) -> str:
        return f"Pattern({self.pattern})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, str):
            walk.refuse(path, "unknown-form")
        elif not self.fits(value) and not walk.open("unknown-value"):
            walk.strip(path, "unknown-value")


LEVEL_PATTERN = r"(?=.{1,24}\Z)[a-z]+(?:[_-][a-z]+)*"
"""A word of an API: `low`, `in_progress`, `last-turn`. New ones come each month and mean no reach;
24 letters hold no address and no id of a provider's.
"""
LEVEL = PatternRule(
    LEVEL_PATTERN,
    usual="auto none low medium high ephemeral completed in_progress incomplete enabled adaptive",
)
LEVEL_OR_FLAG = PatternRule(LEVEL_PATTERN, bool)
ENUM = PatternRule(r"(?=.{1,48}\Z)[A-Za-z]+(?:_[A-Za-z0-9]+){0,8}", int)
FORMAT = EnumRule(
    "wav mp3 opus aac flac pcm pcm16 g711_ulaw g711_alaw ogg webm mp4 m4a png jpeg jpg webp gif svg float base64 int8 uint8 binary ubinary url b64_json json text verbose_json srt vtt"
)
LANGUAGE = PatternRule(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
MIME = PatternRule(r"[a-z]{1,16}/[A-Za-z0-9][A-Za-z0-9.+-]{0,79}(?:; ?[a-z]{1,16}=[A-Za-z0-9.-]{1,24}){0,3}")
DURATION = PatternRule(r"-?(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h|d)?){1,3}", int, float)
SIZE = PatternRule(r"auto|[0-9]{1,5}(?:[x*][0-9]{1,5}|[kKpP]?|:[0-9]{1,5})")
PAST_MODEL = PatternRule(r"(?=.{1,64}\Z)[a-z0-9]+(?:[.-][a-z0-9]+)*(?:[@:][0-9]{1,8})?")
"""A model that gave an answer of the history."""
ROLE = PatternRule(LEVEL_PATTERN, usual="system developer user assistant tool function model")
"""Who speaks. Some models know more roles than these, and a word that no model knows is refused by
its provider.
"""

# --- lists and maps -------------------------------------------------------------------------------


class TextRule(ValueRule):
    """A list of strings."""

    __slots__ = ("passes",)

    def __init__(self) -> None:
        self.passes = frozenset({_NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, list) or not {str}.issuperset(map(type, cast("list[object]", value))):
            walk.refuse(path, "unknown-form")


TEXTS = TextRule()


class NumberRule(ValueRule):
    """A list of numbers."""

    __slots__ = ("passes",)

    def __init__(self) -> None:
        self.passes = frozenset({_NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, list) or not {int, float}.issuperset(map(type, cast("list[object]", value))):
            walk.refuse(path, "unknown-form")


NUMBERS = NumberRule()


class TokenListRule(ValueRule):
    """A prompt as text, as texts, as the numbers of tokens, or as several such lists of numbers;
    other entries of a list go to `entry`.
    """

    __slots__ = ("entry", "passes")

    def __init__(self, entry: ValueRule) -> None:
        self.entry = entry
        self.passes = frozenset({str, _NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, list):
            walk.refuse(path, "unknown-form")
            return
        entries = cast("list[Any]", cast("object", value))
        types = set(map(type, entries))
        if types <= {str} or types <= {int}:
            return
        if types == {list}:
            for index, tokens in enumerate(entries):
                if not {int}.issuperset(map(type, tokens)):
                    walk.refuse((path, index), "unknown-form")
            return
        for index, entry in enumerate(entries):
            if type(entry) is not str:
                self.entry(walk, entry, (path, index))

    def inside(self) -> Inside:
        return (("[]", self.entry),)


MOST_KEYS = 10_000
"""Keys of an object whose keys are not known in advance. Services take some hundreds."""


class MapRule(ValueRule):
    """An object whose keys are not known in advance, but match a bounded pattern. Other keys are
    stripped.
    """

    __slots__ = ("fits", "passes", "value")

    def __init__(self, keys: str, value: ValueRule) -> None:
        self.fits = re.compile(keys).fullmatch
        self.value = value
        self.passes = frozenset({_NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict) or len(cast("Json", value)) > MOST_KEYS:
            walk.refuse(path, "unknown-form")
            return
        for key, member in cast("Json", value).items():
            if not self.fits(key):
                if not walk.open("unknown-field"):
                    walk.strip((path, key), "unknown-field")
            elif type(member) not in self.value.passes:
                self.value(walk, member, (path, key))

    def inside(self) -> Inside:
        return ((".?", self.value),)


TOKEN_BIAS = MapRule(r"[0-9]{1,9}", NUMBER)
VARIABLES = MapRule(r"[A-Za-z_][A-Za-z0-9_]{0,127}", TEXT)
SWITCHES = MapRule(r"[A-Za-z0-9_.-]{1,64}", ObjectRule({"enabled": FLAG, "defer_loading": FLAG}))
ATTRIBUTES = MapRule(r"[\w .-]{1,64}", SCALAR)

# --- JSON Schemas ---------------------------------------------------------------------------------

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef", "ref")
"""`ref` is Gemini's own spelling; where it is a word of something else, only an address counts."""
_MARKS = frozenset((*_REFERENCES, "$id", "$schema"))
_KNOWN_DRAFT = re.compile(r"https?://json-schema\.org/draft(?:-0[67]|/2019-09|/2020-12)/schema#?")
"""Drafts whose identifier is `$id`. The older ones have `id`, which is a common word for a
property.
"""
_HOLDERS = frozenset((dict, list))


class SchemaRule(ValueRule):
    """A JSON Schema. A reference to another document is refused, since whoever resolves it fetches;
    identifiers that a resolver would take for a base address are stripped.
    """

    __slots__ = ("passes",)

    def __init__(self) -> None:
        self.passes = frozenset({bool, _NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            walk.refuse(path, "unknown-form")
            return
        if _names_another(cast("Json", value)):
            _judge_schema(walk, cast("Json", value), path)


def _names_another(schema: Json) -> bool:
    """Whether anything in it may name another document: one pass without paths, for the many that
    do not.
    """
    level: list[Any] = [schema]
    while level:
        inner: list[Any] = []
        for node in level:
            if type(node) is dict:
                found = cast("Json", node)
                if not _MARKS.isdisjoint(found) and any(
                    _fault_of(key, found[key]) for key in _MARKS & found.keys()
                ):
                    return True
                inner += found.values()
            else:
                inner += node
        level = [value for value in inner if type(value) in _HOLDERS]
    return False


def _fault_of(key: str, value: object) -> str:
    """What becomes of a member of a schema: `refuse`, `strip`, or "" where it is well."""
    if not isinstance(value, str):
        return ""
    if key == "$schema":
        return "" if _KNOWN_DRAFT.fullmatch(value) else "strip"
    if key == "$id":
        return "" if value.startswith("#") else "strip"
    if key == "ref":
        return "refuse" if ":" in value or value.startswith("/") else ""
    return "" if value.startswith("#") else "refuse"


def _judge_schema(walk: PolicyWalk, schema: Json, path: Path) -> None:
    left: list[tuple[Any, Path]] = [(schema, path)]
    while left:
        node, here = left.pop()
        if type(node) is dict:
            for key, value in cast("Json", node).items():
                fault = _fault_of(key, value) if key in _MARKS else ""
                if fault == "refuse":
                    walk.refuse((here, key), "remote-url")
                elif fault and not walk.open("remote-url"):
                    walk.strip((here, key), "remote-url")
                elif type(value) in _HOLDERS:
                    left.append((value, (here, key)))
        else:
            left += [(value, (here, index)) for index, value in enumerate(node) if type(value) in _HOLDERS]


SCHEMA = SchemaRule()

# --- objects that several dialects have -----------------------------------------------------------

CACHE_CONTROL = ObjectRule({"type": LEVEL, "ttl": DURATION, "scope": LEVEL})
BREAKPOINT = ObjectRule({"mode": LEVEL, "ttl": DURATION})
REASONING = ObjectRule(
    {
        "effort": LEVEL,
        "summary": LEVEL,
        "generate_summary": LEVEL,
        "context": LEVEL,
        "mode": LEVEL,
        "max_tokens": NUMBER,
        "enabled": FLAG,
        "exclude": FLAG,
    }
)
GRAMMAR = ObjectRule(
    {
        "type": LEVEL,
        "syntax": LEVEL,
        "definition": TEXT,
        "grammar": ObjectRule({"syntax": LEVEL, "definition": TEXT}),
    }
)
"""Of a custom tool's input. It is text that a parser reads."""
