"""List entries and results of servers: valid ones, and each with a fault at each of its members."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Final, cast

from modelplex.mcp.catalog import MergedCatalog, ServerOffer, merge
from modelplex.mcp.constants import Catalog, Json
from modelplex.mcp.shapes import Kind

WHOLE: Final[dict[Kind, Json]] = {
    "tools": {
        "name": "odd",
        "title": "Odd",
        "description": "does odd",
        "icons": [{"src": "data:,x", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"}],
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"text": {"type": "string"}, "any": {}},
            "required": ["text"],
            "additionalProperties": False,
        },
        "outputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1}},
            "properties": {
                "name": {"$ref": "#/$defs/name"},
                "size": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 9, "multipleOf": 3},
                "kind": {"enum": ["a", "b"], "title": "Kind", "description": "of it", "deprecated": False},
                "list": {
                    "type": "array",
                    "items": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
                    "maxItems": 3,
                },
            },
            "required": ["name"],
            "additionalProperties": False,
        },
        "annotations": {
            "title": "Odd",
            "readOnlyHint": True,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
        "execution": {"taskSupport": "optional"},
        "_meta": {"example.com/key": 1},
    },
    "prompts": {
        "name": "odd",
        "title": "Odd",
        "description": "says odd",
        "icons": [{"src": "data:,x"}],
        "arguments": [{"name": "text", "title": "Text", "description": "what", "required": True}],
        "_meta": {"example.com/key": 1},
    },
    "resources": {
        "uri": "odd:it",
        "name": "odd",
        "title": "Odd",
        "description": "is odd",
        "mimeType": "text/plain",
        "size": 7,
        "icons": [{"src": "data:,x"}],
        "annotations": {"audience": ["user"], "priority": 0.5, "lastModified": "2025-01-12T15:00:58Z"},
        "_meta": {"example.com/key": 1},
    },
    "resourceTemplates": {
        "uriTemplate": "odd:{it}",
        "name": "odd",
        "title": "Odd",
        "description": "is odd",
        "mimeType": "text/plain",
        "icons": [{"src": "data:,x"}],
        "annotations": {
            "audience": ["assistant"],
            "priority": 1,
            "lastModified": "2025-01-12T15:00:58+01:00",
        },
        "_meta": {"example.com/key": 1},
    },
}


GOOD: Final[dict[Kind, Json]] = {
    "tools": {"name": "good", "inputSchema": {"type": "object"}},
    "prompts": {"name": "good"},
    "resources": {"uri": "good:it", "name": "good"},
    "resourceTemplates": {"uriTemplate": "good:{it}", "name": "good"},
}


INSTEAD: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1.5,
    "",
    "odd word",
    [],
    [None],
    [1],
    {},
    {"odd": None},
    {"odd": True},
)
"""What stands in the place of a member."""


BROKEN_SCHEMAS: Final[tuple[Json, ...]] = (
    {"type": "object", "properties": {"a": {"type": "strin"}}},
    {"type": "object", "properties": {"a": {"pattern": "(?i)x"}}},
    {"type": "object", "properties": {"a": {"pattern": "["}}},
    {"type": "object", "patternProperties": {"(": {}}},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
    {"type": "object", "properties": {"a": {"$ref": "https://example.com/schema"}}},
    {"type": "object", "properties": {"a": {"nullable": True}}},
    {"type": "object", "properties": {"a": {"enum": []}}},
    {"type": "object", "properties": {"a": {"type": "number", "minimum": "3"}}},
    {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": True}}},
    {"type": "object", "properties": {"a": {"required": True}}},
    {"type": "object", "properties": {"a": {"id": "x"}}},
    {"type": "object", "properties": {"a": {"items": [{}]}}},
    {"type": "object", "properties": {"a": {"allOf": {}}}},
    {"type": "object", "properties": {"a": 3}},
    {"type": "object", "$schema": "http://json-schema.org/draft-04/schema#"},
    {"type": "object", "$id": 3},
    {"type": "object", "$async": True},
    {"type": "array", "items": {"type": "string"}},
    {"anyOf": [{"type": "object"}, {"type": "string"}]},
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """To every member at any depth."""
    members: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        members = [*cast("Json", value).items()]
    elif isinstance(value, list):
        members = [*enumerate(cast("list[object]", value))]
    for name, below in members:
        yield (*path, name)
        yield from paths(below, (*path, name))


def changed(entry: Json, path: Sequence[str | int], *, to: object = None, gone: bool = False) -> Json:
    copy: Any = deepcopy(entry)
    place = copy
    for name in path[:-1]:
        place = place[name]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = deepcopy(to)
    return dict(copy)


def broken(kind: Kind) -> Iterator[tuple[str, Json]]:
    """The whole entry without each member, and with each thing in its place."""
    whole = WHOLE[kind]
    for path in paths(whole):
        at = ".".join(map(str, path))
        yield f"{at} gone", changed(whole, path, gone=True)
        for value in INSTEAD:
            yield f"{at} {json.dumps(value)}", changed(whole, path, to=value)
    if kind == "tools":
        for schema in BROKEN_SCHEMAS:
            for member in ("inputSchema", "outputSchema"):
                yield f"{member} {json.dumps(schema)}", {**whole, member: schema}


def merged_with(kind: Kind, entry: Json) -> MergedCatalog:
    field = "templates" if kind == "resourceTemplates" else kind
    catalogs = [
        Catalog(era="legacy", version="2025-11-25", **{field: (entry, GOOD[kind])}),  # type: ignore[arg-type]
        Catalog(era="legacy", version="2025-11-25", **{field: (changed_name(kind, GOOD[kind]),)}),  # type: ignore[arg-type]
    ]
    return merge([ServerOffer(server=f"s{index}", catalog=catalog) for index, catalog in enumerate(catalogs)])


def changed_name(kind: Kind, entry: Json) -> Json:
    key = {"resources": "uri", "resourceTemplates": "uriTemplate"}.get(kind, "name")
    return {**entry, key: "x" + entry[key]}


ANNOTATED: Final[Json] = {"audience": ["user"], "priority": 1, "lastModified": "2025-01-12T15:00:58Z"}


BLOCKS: Final[tuple[Json, ...]] = (
    {"type": "text", "text": "it", "annotations": ANNOTATED, "_meta": {"a": 1}},
    {"type": "image", "data": "aWFt", "mimeType": "image/png", "annotations": ANNOTATED},
    {"type": "audio", "data": "aWE=", "mimeType": "audio/wav"},
    {"type": "resource_link", "uri": "a:b", "name": "b", "size": 3, "annotations": ANNOTATED},
    {
        "type": "resource",
        "resource": {"uri": "a:b", "mimeType": "text/plain", "text": "it"},
        "annotations": ANNOTATED,
    },
    {"type": "resource", "resource": {"uri": "a:b", "blob": "aWE"}},
)


ANSWERS: Final[tuple[tuple[str, Json], ...]] = (
    ("tools/call", {"content": [*BLOCKS], "structuredContent": {"a": 1}, "isError": False}),
    (
        "prompts/get",
        {"description": "it", "messages": [{"role": "user", "content": each} for each in BLOCKS]},
    ),
    ("resources/read", {"contents": [each["resource"] for each in BLOCKS[4:]]}),
)


def broken_answers() -> Iterator[tuple[str, str, Json]]:
    for method, whole in ANSWERS:
        for path in paths(whole):
            at = f"{method} {'.'.join(map(str, path))}"
            yield f"{at} gone", method, changed(whole, path, gone=True)
            for value in INSTEAD:
                made = changed(whole, path, to=value)
                # A block of another type is the client's to judge.
                if not (path[-1] == "type" and isinstance(value, str)):
                    yield f"{at} {json.dumps(value)}", method, made
