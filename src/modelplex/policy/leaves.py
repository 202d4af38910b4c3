"""The types of single values that pass: text, numbers, flags, enums, bounded patterns, JSON
Schemas, and a few kinds of opaque JSON.

Every member that passes ends in one of these. A value of another type is refused (`unknown-form`);
an unknown word is stripped (`unknown-value`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from modelplex.policy import accepted_types
from modelplex.policy.accepted_types import Shape, Shapes, first_byte
from modelplex.policy.containers import ObjectRule
from modelplex.policy.path import Path
from modelplex.policy.strict_json import is_strict
from modelplex.policy.walk import UNKNOWN_FORM, Children, Json, PolicyWalk, ValueRule

_NULL = type(None)

# --- plain values ---------------------------------------------------------------------------------


class PlainRule(ValueRule):
    """A value of one of these Python types, or null. Only its type is checked. `long`: a text that
    may be long.
    """

    __slots__ = ("allowed_types", "description", "long")

    def __init__(self, description: str, *types: type, long: bool = False) -> None:
        self.description = description
        self.allowed_types = frozenset((*types, _NULL))
        self.long = long

    def __repr__(self) -> str:
        return f"Plain({self.description})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        walk.refuse(path, "unknown-form")

    def shape(self, shapes: Shapes) -> Shape | None:
        del shapes
        if self.long:
            return accepted_types.LONG_TEXT
        return _PLAIN_SHAPES.get(self.allowed_types)


_PLAIN_SHAPES: Mapping[frozenset[type], Shape] = {
    frozenset((str, _NULL)): Shape(str | None),
    frozenset((bool, _NULL)): Shape(bool | None),
    frozenset((int, float, _NULL)): accepted_types.NUMBER,
}


TEXT = PlainRule("text to or from the model", str)
LONG_TEXT = PlainRule("text to or from the model", str, long=True)
"""The same for members that hold most of a conversation's text."""
NAME = PlainRule("a name that the client or the model chose", str)
ID = PlainRule("an id that links parts of this request", str)
OPAQUE_STATE = PlainRule("opaque state that the client carries: a signature, or ciphertext", str)
TYPE = PlainRule("the discriminator that selected this table", str)
MODEL = PlainRule("the model: the gateway writes it and checks its name", str)
FLAG = PlainRule("a flag", bool)
NUMBER = PlainRule("a number", int, float)
SCALAR = PlainRule("a number, a flag or a string", str, int, float, bool)


class OpaqueRule(PlainRule):
    """Opaque JSON that a provider does not act on. Each one is reviewed: tests list them by their
    description.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Data({self.description})"

    def shape(self, shapes: Shapes) -> Shape | None:
        del shapes
        return Shape(msgspec.Raw, self._accepts, any_text=str in self.allowed_types)

    def _accepts(self, raw: msgspec.Raw) -> bool:
        first = first_byte(raw)
        if first == accepted_types.TEXT:
            return str in self.allowed_types
        kind = {accepted_types.LIST: list, accepted_types.OBJECT: dict}.get(first)
        return kind in self.allowed_types and is_strict(raw)


ARGUMENTS = OpaqueRule(
    "arguments of a tool call: the model wrote them, the client reads them", dict, list, str
)
TOOL_RESULT = OpaqueRule("what a client's function returned", dict, list, str, int, float, bool)
EXAMPLES = OpaqueRule("examples of a tool's arguments", dict, list)
PART_METADATA = OpaqueRule("metadata of a part, which Gemini documents as inert", dict)
CLASSIFIER_CONTEXT = OpaqueRule(
    "what a classifier of the provider reads beside the conversation", dict, list, str, int, float, bool
)
PARSED_OUTPUT = OpaqueRule("what an SDK parsed from the text beside it", dict, list, str, int, float, bool)

# --- enums and patterns ---------------------------------------------------------------------------


class EnumRule(ValueRule):
    """One of these words. Any other is stripped; refused if `required`, since the value says what
    its object is.
    """

    __slots__ = ("allowed_types", "allowed_words", "required")

    def __init__(self, words: str, *, required: bool = False) -> None:
        self.allowed_words = frozenset(words.split())
        self.required = required
        self.allowed_types = frozenset({_NULL})

    def __repr__(self) -> str:
        return f"Words({' '.join(sorted(self.allowed_words))})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, str):
            walk.refuse(path, "unknown-form")
        elif value not in self.allowed_words:
            if self.required:
                walk.refuse(path, "unknown-part")
            elif not walk.allows("unknown-value"):
                walk.strip(path, "unknown-value")

    def shape(self, shapes: Shapes) -> Shape | None:
        del shapes
        return accepted_types.words(self.allowed_words)


class PatternRule(ValueRule):
    """A string that a bounded pattern matches as a whole, or a value of one of the `plain` types.
    Any other string is stripped.
    """

    __slots__ = ("allowed_types", "allowed_words", "fullmatch", "pattern")

    def __init__(self, pattern: str, *plain: type, usual: str = "") -> None:
        """`usual` are words that match, and pass without a match for speed."""
        self.pattern = pattern
        self.fullmatch = re.compile(pattern).fullmatch
        self.allowed_words = frozenset(usual.split())
        self.allowed_types = frozenset((*plain, _NULL))

    def __repr__(self) -> str:
        return f"Pattern({self.pattern})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, str):
            walk.refuse(path, "unknown-form")
        elif not self.fullmatch(value) and not walk.allows("unknown-value"):
            walk.strip(path, "unknown-value")

    def shape(self, shapes: Shapes) -> Shape | None:
        del shapes
        flag = self.allowed_types & {bool}
        if self.allowed_words:
            return accepted_types.words(self.allowed_words, *flag)
        return accepted_types.matching(self.pattern, *flag)


KEYWORD_PATTERN = r"(?=.{1,24}\Z)[a-z]+(?:[_-][a-z]+)*"
"""A keyword of an API: `low`, `in_progress`, `last-turn`. New ones appear each month and are
harmless; 24 letters fit no URL and no provider's id.
"""
KEYWORD = PatternRule(
    KEYWORD_PATTERN,
    usual="auto none low medium high ephemeral completed in_progress incomplete enabled adaptive",
)
KEYWORD_OR_FLAG = PatternRule(KEYWORD_PATTERN, bool)
ENUM = PatternRule(r"(?=.{1,48}\Z)[A-Za-z]+(?:_[A-Za-z0-9]+){0,8}", int)
FORMAT = EnumRule(
    "wav mp3 opus aac flac pcm pcm16 g711_ulaw g711_alaw ogg webm mp4 m4a png jpeg jpg webp gif svg float base64 int8 uint8 binary ubinary url b64_json json text verbose_json srt vtt"
)
LANGUAGE = PatternRule(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{2,8}){0,3}")
MIME = PatternRule(r"[a-z]{1,16}/[A-Za-z0-9][A-Za-z0-9.+-]{0,79}(?:; ?[a-z]{1,16}=[A-Za-z0-9.-]{1,24}){0,3}")
DURATION = PatternRule(r"-?(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h|d)?){1,3}", int, float)
SIZE = PatternRule(r"auto|[0-9]{1,5}(?:[x*][0-9]{1,5}|[kKpP]?|:[0-9]{1,5})")
PAST_MODEL = PatternRule(r"(?=.{1,64}\Z)[a-z0-9]+(?:[.-][a-z0-9]+)*(?:[@:][0-9]{1,8})?")
"""A model that produced a message of the history."""
ROLE = PatternRule(KEYWORD_PATTERN, usual="system developer user assistant tool function model")
"""Some models have more roles than these. A provider rejects a role that its model does not have.
"""

# --- lists and maps -------------------------------------------------------------------------------


class PlainListRule(ValueRule):
    """A list of values of these Python types."""

    __slots__ = ("allowed_types", "entry_types")

    def __init__(self, *entry_types: type) -> None:
        self.entry_types = frozenset(entry_types)
        self.allowed_types = frozenset({_NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, list) or not self.entry_types.issuperset(
            map(type, cast("list[object]", value))
        ):
            walk.refuse(path, "unknown-form")

    def shape(self, shapes: Shapes) -> Shape | None:
        del shapes
        return Shape(list[str] | None) if self.entry_types == frozenset((str,)) else None


TEXTS = PlainListRule(str)
NUMBERS = PlainListRule(int, float)


class TokenListRule(ValueRule):
    """A prompt as text, texts, token ids, or several lists of token ids. `entry` is the rule of
    other entries of a list.
    """

    __slots__ = ("allowed_types", "entry")

    def __init__(self, entry: ValueRule) -> None:
        self.entry = entry
        self.allowed_types = frozenset({str, _NULL})

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

    def children(self) -> Children:
        return (("[]", self.entry),)

    def shape(self, shapes: Shapes) -> Shape | None:
        return accepted_types.long_union(TEXTS, UNKNOWN_FORM, shapes)


MAX_KEYS = 10_000
"""Keys of an object whose keys are not known in advance. Services accept some hundreds."""


class MapRule(ValueRule):
    """An object whose keys are not known in advance, but match a bounded pattern. Other keys are
    stripped.
    """

    __slots__ = ("allowed_types", "fullmatch", "value")

    def __init__(self, keys: str, value: ValueRule) -> None:
        self.fullmatch = re.compile(keys).fullmatch
        self.value = value
        self.allowed_types = frozenset({_NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict) or len(cast("Json", value)) > MAX_KEYS:
            walk.refuse(path, "unknown-form")
            return
        for key, member in cast("Json", value).items():
            if not self.fullmatch(key):
                if not walk.allows("unknown-field"):
                    walk.strip((path, key), "unknown-field")
            elif type(member) not in self.value.allowed_types:
                self.value(walk, member, (path, key))

    def children(self) -> Children:
        return ((".?", self.value),)


TOKEN_BIAS = MapRule(r"[0-9]{1,9}", NUMBER)
VARIABLES = MapRule(r"[A-Za-z_][A-Za-z0-9_]{0,127}", TEXT)
SWITCHES = MapRule(r"[A-Za-z0-9_.-]{1,64}", ObjectRule({"enabled": FLAG, "defer_loading": FLAG}))
ATTRIBUTES = MapRule(r"[\w .-]{1,64}", SCALAR)

# --- JSON Schemas ---------------------------------------------------------------------------------

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef", "ref")
"""`ref` is Gemini's spelling. It may also name a property, so only a value like a URL counts."""
_CHECKED = frozenset((*_REFERENCES, "$id", "$schema"))
_KNOWN_DRAFT = re.compile(r"https?://json-schema\.org/draft(?:-0[67]|/2019-09|/2020-12)/schema#?")
"""Drafts whose identifier is `$id`. Older ones use `id`, which is a common name of a property."""
_HOLDERS = frozenset((dict, list))


class SchemaRule(ValueRule):
    """A JSON Schema. A reference to another document is refused, since a resolver fetches it;
    identifiers that a resolver would use as a base URL are stripped.
    """

    __slots__ = ()
    allowed_types = frozenset({bool, _NULL})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            walk.refuse(path, "unknown-form")
            return
        if _has_fault(cast("Json", value)):
            _check_schema(walk, cast("Json", value), path)


def _has_fault(schema: Json) -> bool:
    """Whether any member is refused or stripped. It builds no paths: most schemas have no fault."""
    level: list[Any] = [schema]
    while level:
        inner: list[Any] = []
        for node in level:
            if type(node) is dict:
                found = cast("Json", node)
                if not _CHECKED.isdisjoint(found) and any(
                    _verdict_of(key, found[key]) for key in _CHECKED & found.keys()
                ):
                    return True
                inner += found.values()
            else:
                inner += node
        level = [value for value in inner if type(value) in _HOLDERS]
    return False


def _verdict_of(key: str, value: object) -> str:
    """`refuse`, `strip`, or "" for a member that passes."""
    if not isinstance(value, str):
        return ""
    if key == "$schema":
        return "" if _KNOWN_DRAFT.fullmatch(value) else "strip"
    if key == "$id":
        return "" if value.startswith("#") else "strip"
    if key == "ref":
        return "refuse" if ":" in value or value.startswith("/") else ""
    return "" if value.startswith("#") else "refuse"


def _check_schema(walk: PolicyWalk, schema: Json, path: Path) -> None:
    left: list[tuple[Any, Path]] = [(schema, path)]
    while left:
        node, here = left.pop()
        if type(node) is dict:
            for key, value in cast("Json", node).items():
                fault = _verdict_of(key, value) if key in _CHECKED else ""
                if fault == "refuse":
                    walk.refuse((here, key), "remote-url")
                elif fault and not walk.allows("remote-url"):
                    walk.strip((here, key), "remote-url")
                elif type(value) in _HOLDERS:
                    left.append((value, (here, key)))
        else:
            left += [(value, (here, index)) for index, value in enumerate(node) if type(value) in _HOLDERS]


SCHEMA = SchemaRule()

# --- objects that several dialects have -----------------------------------------------------------

CACHE_CONTROL = ObjectRule({"type": KEYWORD, "ttl": DURATION, "scope": KEYWORD})
BREAKPOINT = ObjectRule({"mode": KEYWORD, "ttl": DURATION})
REASONING = ObjectRule(
    {
        "effort": KEYWORD,
        "summary": KEYWORD,
        "generate_summary": KEYWORD,
        "context": KEYWORD,
        "mode": KEYWORD,
        "max_tokens": NUMBER,
        "enabled": FLAG,
        "exclude": FLAG,
    }
)
GRAMMAR = ObjectRule(
    {
        "type": KEYWORD,
        "syntax": KEYWORD,
        "definition": TEXT,
        "grammar": ObjectRule({"syntax": KEYWORD, "definition": TEXT}),
    }
)
"""The grammar of a custom tool's input: text that a parser reads."""
