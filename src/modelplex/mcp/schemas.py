"""Checks that a JSON Schema compiles in the validators that MCP clients use.

PURE. The official TypeScript SDK (1.x) compiles the `outputSchema` of every listed tool with Ajv,
and its list call fails if one of them does not compile. The Python SDK checks a schema against its
metaschema when the tool is called. `schema_fault` accepts what both accept, and refuses more than
they do where that keeps the check linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

from modelplex.mcp.constants import Json

TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
DIALECTS: Final = re.compile(r"https?://json-schema\.org/(draft-0[67]|draft/2019-09|draft/2020-12)/schema#?")
"""Dialects that both SDKs know. Without `$schema`, a schema is of 2020-12."""
LONGEST_PATTERN: Final = 1_000
"""Characters of a regular expression. Longer ones are not checked, so they are refused."""

_REFUSED: Final = frozenset(
    "$id id $anchor $async $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor".split()
)
"""Keywords that change what a reference means, or that Ajv refuses. Two tools with one `$id` would
share a validator.
"""
_ONE: Final = frozenset(
    "additionalItems additionalProperties contains contentSchema else if items not propertyNames then"
    " unevaluatedItems unevaluatedProperties".split()
)
"""Keywords whose value is a schema."""
_LIST: Final = frozenset("allOf anyOf oneOf prefixItems".split())
_MAP: Final = frozenset("$defs definitions dependentSchemas patternProperties properties".split())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_texts(value: object) -> bool:
    if not isinstance(value, list):
        return False
    texts = cast("list[object]", value)
    return all(isinstance(text, str) for text in texts) and len({str(text) for text in texts}) == len(texts)


def _is_type(value: object) -> bool:
    if isinstance(value, list):
        kinds = cast("list[str]", value)
        return bool(kinds) and _is_texts(kinds) and TYPES.issuperset(kinds)
    return isinstance(value, str) and value in TYPES


def _is_lists_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(_is_texts(each) for each in cast("Json", value).values())


def _is_full_list(value: object) -> bool:
    return isinstance(value, list) and bool(cast("list[object]", value))


def is_pattern(value: object) -> bool:
    """Whether a text is an ECMA-262 regular expression in Unicode mode. Unknown syntax
    is refused.
    """
    return isinstance(value, str) and len(value) <= LONGEST_PATTERN and _is_expression(value)


_VALUES: Final[Mapping[str, Callable[[object], bool]]] = {
    "$comment": _is_text,
    "$schema": lambda value: isinstance(value, str) and DIALECTS.fullmatch(value) is not None,
    "contentEncoding": _is_text,
    "contentMediaType": _is_text,
    "dependentRequired": _is_lists_of_texts,
    "deprecated": _is_flag,
    "description": _is_text,
    "enum": _is_full_list,
    "examples": lambda value: isinstance(value, list),
    "exclusiveMaximum": _is_number,
    "exclusiveMinimum": _is_number,
    "format": _is_text,
    "maxContains": _is_count,
    "maxItems": _is_count,
    "maxLength": _is_count,
    "maxProperties": _is_count,
    "maximum": _is_number,
    "minContains": _is_count,
    "minItems": _is_count,
    "minLength": _is_count,
    "minProperties": _is_count,
    "minimum": _is_number,
    "multipleOf": lambda value: _is_number(value) and cast("float", value) > 0,
    "nullable": _is_flag,
    "pattern": is_pattern,
    "readOnly": _is_flag,
    "required": _is_texts,
    "title": _is_text,
    "type": _is_type,
    "uniqueItems": _is_flag,
    "writeOnly": _is_flag,
}
"""The required form of keywords that hold no schema."""


def schema_fault(schema: Json) -> str | None:
    """The path and the reason of the first fault, or None. The time is linear in the size of the
    schema.
    """
    seen: set[int] = set()
    references: list[tuple[str, str]] = []
    waiting: list[tuple[str, object]] = [("", schema)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            return f"{path[1:]} is no schema"
        members = cast("Json", node)
        seen.add(id(members))
        for keyword, value in members.items():
            at = f"{path}.{keyword}"
            if keyword == "$ref":
                references.append((at, value))
            elif fault := _keyword_fault(keyword, value, members):
                return f"{at[1:]} {fault}"
            else:
                waiting.extend(_below(at, keyword, value))
    for at, reference in references:
        if id(_target(schema, reference)) not in seen:
            return f"{at[1:]} refers to nothing in this schema"
    return None


def _keyword_fault(keyword: str, value: object, schema: Json) -> str | None:
    if keyword in _REFUSED:
        return "is not understood by all clients"
    check = _VALUES.get(keyword)
    if check is not None and not check(value):
        return "has a value that JSON Schema does not allow, or that is not understood by all clients"
    if keyword == "nullable" and not _fits_nullable(schema, nullable=value is True):
        return "contradicts the type"
    if keyword in _LIST and not _is_full_list(value):
        return "is no list of schemas"
    if keyword == "dependencies" or (keyword in _MAP and not isinstance(value, dict)):
        return "is not understood by all clients"
    if keyword == "patternProperties" and not all(map(is_pattern, cast("Json", value))):
        return "has a key that is no regular expression for all clients"
    return None


def _fits_nullable(schema: Json, *, nullable: bool) -> bool:
    """Ajv requires a `type` beside `nullable`, and no contradiction."""
    kinds: str | list[str] | None = schema.get("type")
    return kinds is not None and (nullable or "null" not in ([kinds] if isinstance(kinds, str) else kinds))


def _below(path: str, keyword: str, value: object) -> Iterator[tuple[str, object]]:
    """The schemas below a keyword."""
    if keyword in _ONE:
        yield path, value
    elif keyword in _LIST:
        for index, each in enumerate(cast("list[object]", value)):
            yield f"{path}.{index}", each
    elif keyword in _MAP:
        for name, each in cast("Json", value).items():
            yield f"{path}.{name}", each


def _target(schema: Json, reference: object) -> object:
    """The target of a `$ref` within the schema; None if it points elsewhere."""
    if not isinstance(reference, str) or not reference.startswith("#") or "%" in reference:
        return None
    node: object = schema
    start, *names = reference[1:].split("/")
    if start:
        return None
    for name in names:
        node = _member(node, name.replace("~1", "/").replace("~0", "~"))
    return node


def _member(node: object, name: str) -> object:
    return cast("Json", node).get(name) if isinstance(node, dict) else None


_ATOM: Final = re.compile(
    r"""
    (?P<assertion> \^ | \$ | \\[bB] )
    | (?P<atom> \. | \\[dDsSwW] | \\[nrtfv0](?![0-9]) | \\x[0-9A-Fa-f]{2} | \\u[0-9A-Fa-f]{4}
        | \\p\{(?:L|Lu|Ll|M|N|Nd|P|S|Z)\} | \\[\^$\\.*+?()\[\]{}|/] | [^\\^$.*+?()\[\]{}|] )
    | (?P<class> \[\^? )
    | (?P<look> \(\?<?[=!] )
    | (?P<group> \((?:\?:)?(?!\?) )
    | (?P<close> \) )
    | (?P<either> \| )
    | (?P<repeat> [*+?]\?? | \{(?P<least>\d{1,4})(?:,(?P<most>\d{1,4})?)?\}\?? )
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS: Final = re.compile(
    r"(?P<set>\\[dDsSwW]|\\p\{(?:L|Lu|Ll|M|N|Nd|P|S|Z)\})"
    r"|(?P<one>\\[nrtfvb0](?![0-9])|\\x(?P<hex>[0-9A-Fa-f]{2})|\\u(?P<code>[0-9A-Fa-f]{4})"
    r"|\\(?P<escaped>[\^$\\.*+?()\[\]{}|/\-])|(?P<plain>[^\\\]]))",
    re.DOTALL,
)
_CONTROLS: Final = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "b": 8, "0": 0}


def _is_expression(text: str) -> bool:
    at = 0
    looks: list[bool] = []  # for each open group, whether it is a lookaround, which may not be repeated
    repeatable = False
    while at < len(text):
        found = _ATOM.match(text, at)
        if found is None:
            return False
        at = found.end()
        match found.lastgroup:
            case "atom":
                repeatable = True
            case "class":
                after = _class_end(text, at)
                if after is None:
                    return False
                at, repeatable = after, True
            case "repeat":
                if not repeatable or not _ordered(found):
                    return False
                repeatable = False
            case "look" | "group":
                looks.append(found.lastgroup == "look")
                repeatable = False
            case "close":
                if not looks:
                    return False
                repeatable = not looks.pop()
            case _:
                repeatable = False
    return not looks


def _ordered(repeat: re.Match[str]) -> bool:
    least, most = repeat["least"], repeat["most"]
    return least is None or most is None or int(least) <= int(most)


def _class_end(text: str, at: int) -> int | None:
    """The end of the character class that begins here; None if there is none."""
    while at < len(text):
        if text[at] == "]":
            return at + 1
        found = _IN_CLASS.match(text, at)
        if found is None:
            return None
        at = found.end()
        code = _code(found)
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in {"]", ""}:
            last = _IN_CLASS.match(text, at + 1)
            end = _code(last) if last is not None else None
            if last is None or code is None or end is None or code > end:
                return None
            at = last.end()
    return None


def _code(found: re.Match[str]) -> int | None:
    """The character of an element of a class; None for a set."""
    if found["set"] is not None:
        return None
    if found["hex"] or found["code"]:
        return int(found["hex"] or found["code"], 16)
    if found["escaped"] or found["plain"]:
        return ord(found["escaped"] or found["plain"])
    return _CONTROLS[found["one"][1]]
