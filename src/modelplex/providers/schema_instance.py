"""An example value of a JSON Schema, for the demo provider. It is deterministic and minimal.

Supports the part of JSON Schema 2020-12 that tools and response formats use: types, enum, const,
$ref, anyOf, oneOf, allOf, bounds of numbers, lengths and counts. A `pattern` is satisfied only by
`default` or `examples`: running a client's regular expression could take forever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias, cast

Schema: TypeAlias = Mapping[str, object]

MAX_NODES = 10_000
"""Values of one instance. References can double a schema at every level, so that a short schema
could exceed the memory.
"""
MAX_DEPTH = 64
"""Levels of one instance: far above real schemas, far below Python's recursion limit."""
MAX_LENGTH = 10_000
"""Characters of a string that a schema may require."""
LEAST_STEP = 1e-9
GREATEST_NUMBER = 2.0**53
"""Beyond these a float cannot represent every multiple."""

_BY_FORMAT = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

# The type of a schema without `type`, by its other keywords.
_IMPLIES = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
    "minLength": "string",
    "format": "string",
}


class NoInstance(ValueError):
    """The schema has no instance, or none that this module finds. The message says why."""


def instance(schema: object) -> object:
    """A value that is valid for the schema (decoded JSON). Raises NoInstance."""
    return _Maker(schema).make(schema, turn=0)


class _Maker:
    """Builds one instance. `turn` is the index in an array, so that its items can differ."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._left = MAX_NODES
        self._depth = 0
        # The references that were followed to the current place. Following one of them again may
        # never end, so it is tried last.
        self._within = ["#"]

    def make(self, schema: object, *, turn: int) -> object:
        if schema is False:
            raise NoInstance("the schema `false` allows nothing")
        self._left -= 1
        if self._left < 0:
            raise NoInstance(f"it has more than {MAX_NODES} values")
        if self._depth >= MAX_DEPTH:
            raise NoInstance(f"it is nested more than {MAX_DEPTH} deep")
        self._depth += 1
        within = len(self._within)
        try:
            return self._make(self._resolved(_object(schema)), turn=turn)
        finally:
            self._depth -= 1
            del self._within[within:]

    def _make(self, schema: Schema, *, turn: int) -> object:
        for several in ("anyOf", "oneOf"):
            if options := _list(schema.get(several)):
                return self._first(schema, several, options, turn=turn)
        if "const" in schema:
            return schema["const"]
        if choices := _list(schema.get("enum")):
            return choices[turn % len(choices)]
        match _type(schema):
            case "object":
                return self._make_object(schema)
            case "array":
                return self._make_array(schema)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer", turn=turn)
            case "boolean":
                return turn % 2 == 0
            case "null":
                return None
            case _:
                return _string(schema, turn=turn)

    def _resolved(self, schema: Schema) -> Schema:
        """The schema with `$ref` and `allOf` merged into it."""
        for _ in range(MAX_DEPTH):
            if isinstance(ref := schema.get("$ref"), str):
                rest = {name: value for name, value in schema.items() if name != "$ref"}
                self._within.append(ref)
                schema = _merged(self._at(ref), rest)
            elif parts := _list(schema.get("allOf")):
                rest = {name: value for name, value in schema.items() if name != "allOf"}
                for part in parts:
                    rest = dict(_merged(rest, self._resolved(_object(part))))
                schema = rest
            else:
                return schema
        raise NoInstance("its references never end")

    def _at(self, ref: str) -> Schema:
        """What a reference within the schema points to (RFC 6901)."""
        if not ref.startswith("#"):
            raise NoInstance(f"{ref!r} is outside of the schema")
        found: object = self._root
        for step in ref[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            match found:
                case dict() if name in (inside := cast("dict[str, object]", found)):
                    found = inside[name]
                case list() if name.isdecimal() and int(name) < len(items := cast("list[object]", found)):
                    found = items[int(name)]
                case _:
                    raise NoInstance(f"{ref!r} points to nothing")
        return _object(found)

    def _first(self, schema: Schema, several: str, options: list[object], *, turn: int) -> object:
        """The first option that has an instance."""
        rest = {name: value for name, value in schema.items() if name != several}
        why = NoInstance(f"none of its {several} can be met")
        for option in sorted(options, key=self._is_circular):
            try:
                return self.make(_merged(rest, _object(option)), turn=turn)
            except NoInstance as error:
                if self._left < 0:
                    raise
                why = error
        raise why

    def _is_circular(self, schema: object) -> bool:
        return isinstance(schema, dict) and cast("dict[str, object]", schema).get("$ref") in self._within

    def _make_object(self, schema: Schema) -> dict[str, object]:
        properties = _object(schema.get("properties", {}))
        others = schema.get("additionalProperties", True)
        names = [str(name) for name in _list(schema.get("required"))]
        spare = [name for name in properties if name not in names]
        while len(names) < _count(schema, "minProperties"):
            names.append(spare.pop(0) if spare else f"demo{len(names) + 1}")
            self._spend()
        return {name: self.make(properties.get(name, others), turn=0) for name in names}

    def _make_array(self, schema: Schema) -> list[object]:
        fixed = _list(schema.get("prefixItems"))
        items = schema.get("items", True)
        least = max(_count(schema, "minItems"), len(fixed))
        made: list[object] = []
        for turn in range(least):
            self._spend()
            made.append(self.make(fixed[turn], turn=0) if turn < len(fixed) else self.make(items, turn=turn))
        if not made and "items" in schema and schema.get("maxItems") != 0 and not self._is_circular(items):
            try:
                return [self.make(items, turn=0)]
            except NoInstance:
                if self._left < 0:
                    raise
        return made

    def _spend(self) -> None:
        """Count a value before it is made, since a schema may require a billion of them."""
        self._left -= 1
        if self._left < 0:
            raise NoInstance(f"it has more than {MAX_NODES} values")


def _object(schema: object) -> Schema:
    match schema:
        case dict():
            return cast("dict[str, object]", schema)
        case True:
            return {}
        case False:
            return {"anyOf": [False]}
        case _:
            raise NoInstance("a part of it is neither an object nor a boolean")


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _count(schema: Schema, name: str) -> int:
    value = schema.get(name, 0)
    return value if isinstance(value, int) else 0


def _merged(one: Schema, other: Schema) -> Schema:
    """Both schemas combined: properties and bounds of both, else the second one's value."""
    merged = {**one, **other}
    for name in ("properties", "$defs"):
        if name in one and name in other:
            merged[name] = {**_object(one[name]), **_object(other[name])}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*_list(one["required"]), *_list(other["required"])]))
    for name, pick in (("minimum", max), ("maximum", min), ("minLength", max), ("minItems", max)):
        both = (one.get(name), other.get(name))
        if all(isinstance(value, int | float) for value in both):
            merged[name] = pick(cast("tuple[float, float]", both))
    return merged


def _type(schema: Schema) -> str:
    declared = schema.get("type")
    if isinstance(declared, str):
        return declared
    if kinds := [str(kind) for kind in _list(declared)]:
        return next((kind for kind in kinds if kind != "null"), "null")
    return next((kind for name, kind in _IMPLIES.items() if name in schema), "string")


def _string(schema: Schema, *, turn: int) -> str:
    for given in (schema.get("default"), *_list(schema.get("examples"))):
        if "pattern" in schema and isinstance(given, str):
            return given
    text = _BY_FORMAT.get(str(schema.get("format")), "demo")
    if turn and text == "demo":
        text = f"demo {turn + 1}"
    least, most = _count(schema, "minLength"), schema.get("maxLength")
    if least > MAX_LENGTH:
        raise NoInstance(f"it requires a string of more than {MAX_LENGTH} characters")
    text = text.ljust(least, "o")
    return text[:most] if isinstance(most, int) else text


def _number(schema: Schema, *, whole: bool, turn: int) -> int | float:
    """The number nearest to 1 within the bounds; each turn the next one."""
    low, high = _bound(schema, "minimum", -math.inf), _bound(schema, "maximum", math.inf)
    step = _bound(schema, "multipleOf", 1.0)
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    # In draft 4 it is true beside the bound, in later drafts it is the bound.
    above = low if over is True else _bound(schema, "exclusiveMinimum", -math.inf)
    below = high if under is True else _bound(schema, "exclusiveMaximum", math.inf)
    at_least, at_most = max(low, above), min(high, below)
    if not LEAST_STEP <= step <= GREATEST_NUMBER or at_least > GREATEST_NUMBER or at_most < -GREATEST_NUMBER:
        raise NoInstance("no number within its bounds can be told apart from the next")
    value: float = step * max(math.ceil(1 / step), 1)
    if value < at_least or value <= above:
        value = step * math.ceil(at_least / step)
        value += step if value <= above else 0
    if value > at_most or value >= below:
        value = step * math.floor(at_most / step)
        value -= step if value >= below else 0
    if (value < low or value <= above) and not whole and "multipleOf" not in schema:
        value = (at_least + at_most) / 2
    if not (low <= value <= high and above < value < below) or not math.isfinite(value):
        raise NoInstance("no number is within its bounds")
    if value + turn * step <= high and value + turn * step < below:
        value += turn * step
    return int(value) if value == int(value) else value


def _bound(schema: Schema, name: str, otherwise: float) -> float:
    value = schema.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
