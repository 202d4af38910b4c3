"""Rules: functions that read one kind of value from a TomlNode, or record its fault.

Knows no key by name: `rules_of` gives each field of a settings type its rule, from the field's type
where no other is named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin

import msgspec

from modelplex.config.secret import Secret
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode, nearest, quote, suggestion, type_name

MAX_SECONDS: Final = 1e7
"""Some four months. More is a typing error, and far more would overflow a timer."""
MAX_BYTES: Final = 2**40
"""Above any size in use."""

T = TypeVar("T")
Rule: TypeAlias = Callable[[TomlNode], T | Faulty]

_REFERENCE: Final = re.compile(r"\$\$|\$\{([^}]*)\}?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name: RFC 9110, section 5.6.2."""


# --- strings --------------------------------------------------------------------------------------


def _expand(node: TomlNode, raw: str) -> str | Faulty:
    """`raw` with each `${NAME}` taken from the environment, and `$$` as `$`."""
    good = True

    def replace(found: re.Match[str]) -> str:
        nonlocal good
        name = found[1]
        if name is None:
            return "$"
        if not found[0].endswith("}") or not _VARIABLE.fullmatch(name):
            good = False
            # The text is not quoted: it may be the rest of a key that contains a $.
            node.reject("${NAME} with a variable's name", hint="write $$ for a $ itself")
            return ""
        if name not in node.document.environ:
            good = False
            node.reject(f"the environment variable {name} to be set", found="it unset")
        return node.document.environ.get(name, "")

    expanded = _REFERENCE.sub(replace, raw)
    return expanded if good else FAULTY


def _string(node: TomlNode, *, expected: str, is_secret: bool = False, empty: bool = False) -> str | Faulty:
    if not isinstance(node.value, str):
        return node.reject(expected, found=(type_name if is_secret else quote)(node.value))
    value = _expand(node, node.value)
    if value is FAULTY or value.strip() or empty:
        return value
    return node.reject(
        expected, found=f"nothing in {node.value}" if "${" in node.value else "an empty string"
    )


def text(expected: str) -> Rule[str]:
    """A string that is not blank and has no control characters."""

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=expected)
        if value is FAULTY or value.isprintable():
            return value
        return node.reject(expected, found="a control character in it")

    return rule


def matching(pattern: str, expected: str) -> Rule[str]:
    """A string that matches `pattern` as a whole."""
    form = re.compile(pattern, re.ASCII)

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=expected)
        if value is FAULTY or form.fullmatch(value):
            return value
        return node.reject(expected, found=quote(node.value))

    return rule


def parsed(parse: Callable[[str], str], expected: str, *, is_secret: bool = False) -> Rule[str]:
    """What `parse` makes of a string; the sentence of its ValueError becomes the hint."""

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=expected)
        if value is FAULTY:
            return FAULTY
        try:
            return parse(value)
        except ValueError as error:
            sentence = str(error).rstrip(".")
            found = (type_name if is_secret else quote)(node.value)
            return node.reject(expected, found=found, hint=sentence[:1].lower() + sentence[1:])

    return rule


def one_of(words: Sequence[str], expected: str = "", *, hints: Mapping[str, str] | None = None) -> Rule[str]:
    """One of these words. `expected` describes a long list; `hints` are for other words that people
    write.
    """
    listed = expected or " or ".join(f'"{word}"' for word in words)

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=listed)
        if value is FAULTY or value in words:
            return value
        hint = (hints or {}).get(value.lower())
        if hint is None and (near := nearest(value, words)) is not None:
            hint = f'did you mean "{near}"?'
        if hint is None and expected:
            hint = suggestion(value, words)
        return node.reject(listed, found=quote(node.value), hint=hint)

    return rule


def converted(kind: object, expected: str) -> Rule[object]:
    """Whatever msgspec converts into `kind`, with strings expanded."""

    def rule(node: TomlNode) -> object:
        value = _expand_all(node)
        if value is FAULTY:
            return FAULTY
        try:
            return msgspec.convert(value, cast("type[object]", kind))
        except msgspec.ValidationError:
            return node.reject(expected, found=quote(node.value))

    return rule


def _expand_all(node: TomlNode) -> object:
    if isinstance(node.value, str):
        return _expand(node, node.value)
    if not isinstance(node.value, list):
        return node.value
    values = [_expand_all(element) for element in node.elements()]
    return FAULTY if FAULTY in values else values


def secret(expected: str, *, empty: bool = False) -> Rule[Secret]:
    """A string that no fault quotes, sent in a header: visible ASCII. White space around it, such
    as a newline at the end of a variable, is stripped.
    """

    def rule(node: TomlNode) -> Secret | Faulty:
        value = _string(node, expected=expected, is_secret=True, empty=empty)
        if value is FAULTY:
            return FAULTY
        value = value.strip()
        if not (value.isascii() and value.isprintable()):
            return node.reject(expected, found="a character that is not visible ASCII")
        return Secret(value)

    return rule


def secret_argument(expected: str) -> Rule[Secret]:
    """A string that no fault quotes, passed to a process: anything but a NUL, empty too."""

    def rule(node: TomlNode) -> Secret | Faulty:
        value = _string(node, expected=expected, is_secret=True, empty=True)
        if value is FAULTY:
            return FAULTY
        return node.reject(expected, found="a NUL byte in it") if "\0" in value else Secret(value)

    return rule


PATH: Final = text("a path")

# --- numbers --------------------------------------------------------------------------------------


def boolean(node: TomlNode) -> bool | Faulty:
    value = node.value
    return value if isinstance(value, bool) else node.reject("true or false", found=quote(value))


def integer(unit: str, *, least: int, most: int) -> Rule[int]:
    def rule(node: TomlNode) -> int | Faulty:
        value = node.value
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        return node.reject(f"{unit}, a whole number from {least} to {most}", found=quote(value))

    return rule


def number(expected: str, is_valid: Callable[[float], bool]) -> Rule[float]:
    """A finite integer or float."""

    def rule(node: TomlNode) -> float | Faulty:
        value = node.value
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if is_number and is_valid(cast("float", value)):
            return float(cast("float", value))
        return node.reject(expected, found=quote(value))

    return rule


def seconds(*, zero: bool = False) -> Rule[float]:
    expected = "seconds, a number " + ("of at least 0" if zero else "above 0")
    read = number(expected, lambda value: value > 0 or (zero and value == 0))

    def rule(node: TomlNode) -> float | Faulty:
        value = read(node)
        if value is FAULTY or value <= MAX_SECONDS:
            return value
        return node.reject(f"{expected} and at most {MAX_SECONDS:.0f}", found=quote(node.value))

    return rule


# --- lists and tables -----------------------------------------------------------------------------


def list_of(
    rule: Rule[T], expected: str, *, least: int = 0, single: type | None = None, unique: bool = False
) -> Rule[tuple[T, ...]]:
    """A list of what `rule` reads. A value of the type `single` is a list of one."""

    def read(node: TomlNode) -> tuple[T, ...] | Faulty:
        if single is not None and isinstance(node.value, single):
            value = rule(node)
            return FAULTY if value is FAULTY else (value,)
        if not isinstance(node.value, list):
            return node.reject(expected, found=type_name(node.value))
        values = [rule(element) for element in node.elements()]
        good = tuple(value for value in values if value is not FAULTY)
        if len(good) < len(values):
            return FAULTY
        if len(good) < least:
            return node.reject(expected, found="an empty list")
        if unique and len(set(good)) < len(good):
            return node.reject("each of these once", found="one of them twice")
        return good

    return read


def mapping(rule: Rule[T], *, key: Rule[str]) -> Rule[dict[str, T]]:
    """A table whose keys the user chooses: `key` reads a member's name, `rule` its value."""

    def read(node: TomlNode) -> dict[str, T] | Faulty:
        members = node.members()
        if members is FAULTY:
            return FAULTY
        pairs = [(key(member), rule(member)) for member in members.values()]
        good = {name: value for name, value in pairs if name is not FAULTY and value is not FAULTY}
        return good if len(good) == len(pairs) else FAULTY

    return read


def read_fields(
    node: TomlNode, rules: Mapping[str, Rule[object]]
) -> tuple[dict[str, object], dict[str, TomlNode]]:
    """The valid values of a table with known keys, and the nodes of all its members. An unknown key
    is a fault.
    """
    members = node.members()
    if members is FAULTY:
        return {}, {}
    values: dict[str, object] = {}
    for key, member in members.items():
        rule = rules.get(key)
        if rule is None:
            member.reject("a known key", found=f'"{key}"', hint=_key_hint(key, rules, node.document.homes))
        elif (value := rule(member)) is not FAULTY:
            values[key] = value
    return values, members


def _key_hint(key: str, rules: Mapping[str, object], homes: Mapping[str, str]) -> str | None:
    if (home := homes.get(key)) is not None:
        return f"it belongs in {home}"
    near = nearest(key, [*rules, *homes])
    if near is not None and near not in rules:
        return f'did you mean "{near}", which belongs in {homes[near]}?'
    return suggestion(key, list(rules))


def build(kind: type[T], values: Mapping[str, object]) -> T:
    return kind(**cast("dict[str, Any]", values))


def table(kind: type[T], rules: Mapping[str, Rule[object]]) -> Rule[T]:
    """A table whose keys are the fields of `kind`."""
    return lambda node: build(kind, read_fields(node, rules)[0])


def tables(entry: Rule[T]) -> Rule[tuple[T, ...]]:
    """A list of tables (`[[key]]`); where `entry` gives them a `name`, each has another."""

    def read(node: TomlNode) -> tuple[T, ...] | Faulty:
        if not isinstance(node.value, list):
            found = type_name(node.value)
            hint = f"as in {node.path[-1]} = [ {{ ... }} ]"
            if found == "a table":
                hint = f"each begins with [[{'.'.join(map(str, node.path))}]]"
            return node.reject("a list of tables", found=found, hint=hint)
        lines: dict[str, int | None] = {}
        entries: list[T] = []
        for element in node.elements():
            value = entry(element)
            if value is not FAULTY:
                entries.append(value)
            # The name of a faulty entry counts too.
            name = element.raw_string("name") if value is FAULTY else getattr(value, "name", "")
            place = element.child("name")
            if name in lines:
                hint = f"the first is on line {lines[name]}"
                place.reject("a name of its own", found=f'"{name}" again', hint=hint)
            elif name:
                lines[name] = place.line
        return tuple(entries)

    return read


def rules_of(kind: type[msgspec.Struct], **explicit: Rule[Any]) -> dict[str, Rule[object]]:
    """A rule for each field of `kind`: the one named here, else the one its type implies."""
    implied = {
        field.name: explicit.get(field.name) or _implied(field.type) for field in msgspec.structs.fields(kind)
    }
    return {**implied, **explicit}


def _implied(kind: Any) -> Rule[object]:
    """bool; float as seconds; a Literal's words; any string, or list of strings. `None` beside one
    of these is for an absent key.
    """
    if get_origin(kind) in {Union, UnionType}:
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if kind is bool:
        return boolean
    if kind is float:
        return seconds()
    if get_origin(kind) is Literal:
        return one_of(get_args(kind))
    if kind is str:
        return converted(kind, "a string")
    if get_args(kind) == (str, ...):
        return converted(kind, "a list of strings")
    raise TypeError(f"{kind} implies no rule")


# --- keys of a mapping ----------------------------------------------------------------------------


def header_name(*, reserved: frozenset[str]) -> Rule[str]:
    """A header's name in lower case. `reserved` are headers that the gateway sets or never
    forwards.
    """

    def rule(node: TomlNode) -> str | Faulty:
        name = str(node.path[-1])
        if not _TOKEN.fullmatch(name):
            return node.reject("the name of a header", found=f'"{name}"')
        if name.lower() in reserved:
            return node.reject(
                "a header that a config may set",
                found=f'"{name}", which the gateway sets itself or never forwards',
                hint="the key goes into api_key" if name.lower() in {"authorization", "x-api-key"} else None,
            )
        return name.lower()

    return rule


def environment_name(node: TomlNode) -> str | Faulty:
    name = str(node.path[-1])
    if name and not set(name) & {"=", "\0"}:
        return name
    return node.reject("a variable's name", found=f'"{name}"')


def alias_name(node: TomlNode) -> str | Faulty:
    name = str(node.path[-1])
    return name if name.strip() else node.reject("a name that clients can request", found="an empty one")
