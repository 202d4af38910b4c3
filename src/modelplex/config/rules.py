"""What a value may be: one small function for each kind of value, given a Node and giving the
setting, or FAULTY once it has told the fault.

Above it stands `read.py`, which says which key is of which kind; below it faults and places. It
knows no key by name. A fault shows a string as it stands in the file, before `${NAME}` is filled
in, and shows nothing of what may be a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Final, Literal, TypeAlias, TypeVar, cast

import msgspec

from modelplex.config.problems import ConfigFault
from modelplex.config.secret import Secret
from modelplex.config.toml_positions import Path, dotted, line_of

SHOWN: Final = 60
"""Characters of a wrong value that are shown: enough to find it, short enough for one line."""

LONGEST_WAIT: Final = 1e7
"""Seconds; some four months. More is a typing error, and far more would overflow a timer."""

T = TypeVar("T")


class _Faulty(Enum):
    FAULTY = "faulty"


FAULTY: Final = _Faulty.FAULTY
"""Stands for a value whose fault has been told already."""

Faulty: TypeAlias = Literal[_Faulty.FAULTY]
Rule: TypeAlias = Callable[["TomlNode"], T | Faulty]

_REFERENCE: Final = re.compile(r"\$\$|\$\{([^}]*)\}?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 5.6.2: what a header's name is made of."""


class TomlDocument(msgspec.Struct):
    """A file that is being read: where things stand in it, what fills its `${NAME}`, and the faults
    so far.
    """

    file: str
    lines: Mapping[Path, int]
    environ: Mapping[str, str]
    faults: list[ConfigFault]


class TomlNode(msgspec.Struct, frozen=True):
    """A value of the parsed document and its place."""

    value: object
    path: Path
    document: TomlDocument

    @property
    def line(self) -> int | None:
        return line_of(self.path, self.document.lines)

    def wrong(self, expected: str, *, found: str | None = None, hint: str | None = None) -> Faulty:
        """Tells the fault. `found` is what the reader of the report sees of the value; None shows
        nothing.
        """
        key = dotted(self.path)
        self.document.faults.append(
            ConfigFault(self.document.file, self.line, key, expected=expected, found=found, hint=hint)
        )
        return FAULTY

    def child(self, step: str | int, value: object) -> TomlNode:
        return TomlNode(value, (*self.path, step), self.document)

    def members(self) -> dict[str, TomlNode] | Faulty:
        is_table = isinstance(self.value, dict)
        if not is_table:
            return self.wrong("a table", found=kind_of(self.value))
        table = cast("dict[str, object]", self.value)
        return {key: self.child(key, value) for key, value in table.items()}

    def written(self, key: str) -> str:
        """A string member as it stands in the file, "" where there is none; for looking ahead,
        without judging.
        """
        is_table = isinstance(self.value, dict)
        member = cast("dict[str, object]", self.value).get(key) if is_table else None
        return member if isinstance(member, str) else ""

    def elements(self) -> list[TomlNode]:
        return [self.child(index, value) for index, value in enumerate(cast("list[object]", self.value))]


def shown(value: object) -> str:
    """A wrong value as the report shows it."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return '"' + (value if len(value) <= SHOWN else f"{value[:SHOWN]}...") + '"'
        case _:
            return kind_of(value)


def kind_of(value: object) -> str:
    """A wrong value that nobody should see."""
    match value:
        case "":
            return "an empty string"
        case str():
            return "a string"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def near(word: str, known: Sequence[str]) -> str | None:
    """A "did you mean", or what there is where nothing is near and the list is short enough to
    read.
    """
    if found := get_close_matches(word.lower(), known, n=1, cutoff=0.6):
        return f'did you mean "{found[0]}"?'
    return f"known here: {', '.join(known)}" if known and len(known) <= 25 else None


# --- strings --------------------------------------------------------------------------------------


def _filled(node: TomlNode, raw: str) -> str | Faulty:
    """`raw` with each `${NAME}` taken from the environment and each `$$` made `$`."""
    good = True

    def fill(found: re.Match[str]) -> str:
        nonlocal good
        name = found[1]
        if name is None:
            return "$"
        if not found[0].endswith("}") or not _NAME.fullmatch(name):
            good = False
            # What stands there is not shown: it may be the rest of a key with a $ in it.
            node.wrong("${NAME} with a variable's name", hint="a $ itself is written $$")
            return ""
        if name not in node.document.environ:
            good = False
            node.wrong(f"the environment variable {name} to be set", found="it unset")
        return node.document.environ.get(name, "")

    filled = _REFERENCE.sub(fill, raw)
    return filled if good else FAULTY


def _string(node: TomlNode, *, expected: str, secret: bool = False, empty: bool = False) -> str | Faulty:
    if not isinstance(node.value, str):
        return node.wrong(expected, found=(kind_of if secret else shown)(node.value))
    filled = _filled(node, node.value)
    if filled is FAULTY or filled.strip() or empty:
        return filled
    return node.wrong(expected, found=f"nothing in {node.value}" if "${" in node.value else "an empty string")


def text(expected: str) -> Rule[str]:
    """Any string that is not blank, without control characters."""

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=expected)
        if value is FAULTY or value.isprintable():
            return value
        return node.wrong(expected, found="a control character in it")

    return rule


def matching(pattern: str, expected: str) -> Rule[str]:
    """A string of which all matches `pattern`."""
    form = re.compile(pattern, re.ASCII)

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=expected)
        if value is FAULTY or form.fullmatch(value):
            return value
        return node.wrong(expected, found=shown(node.value))

    return rule


def understood(parse: Callable[[str], str], expected: str, *, show: Callable[[object], str]) -> Rule[str]:
    """A string that `parse` accepts and puts into its usual form; its ValueError becomes the hint.
    `show` is `kind_of` where it may hold a key.
    """

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=expected)
        if value is FAULTY:
            return FAULTY
        try:
            return parse(value)
        except ValueError as error:
            sentence = str(error).rstrip(".")
            return node.wrong(expected, found=show(node.value), hint=sentence[:1].lower() + sentence[1:])

    return rule


def one_of(words: Sequence[str], expected: str = "", *, hints: Mapping[str, str] | None = None) -> Rule[str]:
    """One of a few words. They are all named, but for those of a long list that `expected` stands
    for. `hints` are for other words that people write.
    """
    told = expected or " or ".join(f'"{word}"' for word in words)

    def rule(node: TomlNode) -> str | Faulty:
        value = _string(node, expected=told)
        if value is FAULTY or value in words:
            return value
        if hints and (hint := hints.get(value.lower())):
            return node.wrong(told, found=shown(node.value), hint=hint)
        guess = get_close_matches(value.lower(), words, n=1)
        meant = f'did you mean "{guess[0]}"?' if guess else near(value, words) if expected else None
        return node.wrong(told, found=shown(node.value), hint=meant)

    return rule


def shaped(type_: object, expected: str) -> Rule[object]:
    """Whatever msgspec can make into `type_`, its strings filled in."""

    def rule(node: TomlNode) -> object:
        value = _filled_tree(node)
        if value is FAULTY:
            return FAULTY
        try:
            return msgspec.convert(value, cast("type[object]", type_))
        except msgspec.ValidationError:
            return node.wrong(expected, found=shown(node.value))

    return rule


def _filled_tree(node: TomlNode) -> object:
    if isinstance(node.value, str):
        return _filled(node, node.value)
    if not isinstance(node.value, list):
        return node.value
    filled = [_filled_tree(element) for element in node.elements()]
    return FAULTY if FAULTY in filled else filled


def secret(expected: str, *, empty: bool = False) -> Rule[Secret]:
    """A string that is never shown. It goes into headers, so it holds visible ASCII; a line's end
    after it is cut, as shells do.
    """

    def rule(node: TomlNode) -> Secret | Faulty:
        value = _string(node, expected=expected, secret=True, empty=empty)
        if value is FAULTY:
            return FAULTY
        value = value.strip()
        if not (value.isascii() and value.isprintable()):
            return node.wrong(expected, found="a character that is not visible ASCII")
        return Secret(value)

    return rule


def hidden(expected: str) -> Rule[Secret]:
    """A string that may hold anything, empty too, and is not shown."""

    def rule(node: TomlNode) -> Secret | Faulty:
        value = _string(node, expected=expected, secret=True, empty=True)
        if value is FAULTY:
            return FAULTY
        if "\0" in value:
            return node.wrong(expected, found="a zero byte in it")
        return Secret(value)

    return rule


# --- numbers --------------------------------------------------------------------------------------


def flag(node: TomlNode) -> bool | Faulty:
    return (
        node.value if isinstance(node.value, bool) else node.wrong("true or false", found=shown(node.value))
    )


def whole(unit: str, *, least: int, most: int) -> Rule[int]:
    expected = f"{unit}, a whole number from {least} to {most}"

    def rule(node: TomlNode) -> int | Faulty:
        value = node.value
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        return node.wrong(expected, found=shown(value))

    return rule


def seconds(*, zero: bool = False) -> Rule[float]:
    """`zero` allows 0, where it means at once."""
    expected = "seconds, a number " + ("of at least 0" if zero else "above 0")

    def rule(node: TomlNode) -> float | Faulty:
        value = node.value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            if (value > 0 or (zero and value == 0)) and value <= LONGEST_WAIT:
                return float(value)
            if value > LONGEST_WAIT:
                return node.wrong(f"{expected} and at most {LONGEST_WAIT:.0f}", found=shown(value))
        return node.wrong(expected, found=shown(value))

    return rule


# --- several --------------------------------------------------------------------------------------


def many(rule: Rule[T], expected: str, *, least: int = 0, alone: bool = False) -> Rule[tuple[T, ...]]:
    """A list of what `rule` reads, without repetitions; `alone` takes a single one for a list of
    one.
    """

    def read(node: TomlNode) -> tuple[T, ...] | Faulty:
        if alone and isinstance(node.value, str):
            value = rule(node)
            return FAULTY if value is FAULTY else (value,)
        if not isinstance(node.value, list):
            return node.wrong(expected, found=kind_of(node.value))
        elements = node.elements()
        values = [rule(element) for element in elements]
        good = tuple(value for value in values if value is not FAULTY)
        if len(good) < len(values):
            return FAULTY
        if len(good) < least:
            return node.wrong(expected, found="an empty list")
        return good

    return read


def once(rule: Rule[tuple[T, ...]]) -> Rule[tuple[T, ...]]:
    """A list in which nothing stands twice."""

    def read(node: TomlNode) -> tuple[T, ...] | Faulty:
        values = rule(node)
        if values is FAULTY or len(set(values)) == len(values):
            return values
        return node.wrong("each of these once", found="one of them twice")

    return read


def named(rule: Rule[T], *, name: Callable[[TomlNode], str | Faulty]) -> Rule[dict[str, T]]:
    """A table whose keys the user chooses: `name` gives the key to keep, `rule` reads the value."""

    def read(node: TomlNode) -> dict[str, T] | Faulty:
        members = node.members()
        if members is FAULTY:
            return FAULTY
        pairs = [(name(member), rule(member)) for member in members.values()]
        good = {key: value for key, value in pairs if key is not FAULTY and value is not FAULTY}
        return good if len(good) == len(pairs) else FAULTY

    return read


def fields(
    node: TomlNode, rules: Mapping[str, Rule[object]], *, homes: Mapping[str, str] | None = None
) -> tuple[dict[str, object], dict[str, TomlNode]]:
    """A table whose keys are known: the values that could be read, and each member's node, faulty
    or not.

    Unknown keys are faults; `homes` says of a key in which other table it would be right.
    """
    members = node.members()
    if members is FAULTY:
        return {}, {}
    values: dict[str, object] = {}
    for key, member in members.items():
        rule = rules.get(key)
        if rule is None:
            member.wrong("a known key", found=f'"{key}"', hint=_hint(key, rules, homes or {}))
        elif (value := rule(member)) is not FAULTY:
            values[key] = value
    return values, members


def _hint(key: str, rules: Mapping[str, object], homes: Mapping[str, str]) -> str | None:
    if (home := homes.get(key)) is not None:
        return f"it belongs into {home}"
    known = list(rules)
    nearest = get_close_matches(key.lower(), [*known, *homes], n=1)
    if nearest and nearest[0] not in rules:
        return f'did you mean "{nearest[0]}", which belongs into {homes[nearest[0]]}?'
    return near(key, known)


def header_name(*, refused: frozenset[str]) -> Callable[[TomlNode], str | Faulty]:
    """A header's name in lower case. `refused` are those that the gateway writes itself, or must
    not forward.
    """

    def name(node: TomlNode) -> str | Faulty:
        given = str(node.path[-1])
        if not _TOKEN.fullmatch(given):
            return node.wrong("the name of a header", found=f'"{given}"')
        if given.lower() in refused:
            return node.wrong(
                "a header that is yours to set",
                found=f'"{given}", which the gateway writes itself or never forwards',
                hint="the key goes into api_key" if given.lower() in {"authorization", "x-api-key"} else None,
            )
        return given.lower()

    return name


def environment_name(node: TomlNode) -> str | Faulty:
    given = str(node.path[-1])
    return (
        given
        if given and not set(given) & {"=", "\0"}
        else node.wrong("a variable's name", found=f'"{given}"')
    )


def alias_name(node: TomlNode) -> str | Faulty:
    given = str(node.path[-1])
    return given if given.strip() else node.wrong("a name that clients can ask for", found="an empty one")
