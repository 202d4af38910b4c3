"""Entries of lists, each broken at each of its members, and what is made of them. `make tools`
holds the result against the official SDKs.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any, Final, cast

import pytest

from modelplex.mcp.catalog import MergedCatalog, ServerOffer, merge
from modelplex.mcp.constants import Catalog, Era, Json, McpReply
from modelplex.mcp.result_shapes import repair_result
from modelplex.mcp.schemas import is_pattern, schema_fault
from modelplex.mcp.shapes import Kind, Malformed, older, repair_entry
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, Sent, error, result, tool
from tests.mcp.installed import MODULES, PEERS, python
from tests.peers import node

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
METHODS: Final[dict[Kind, str]] = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
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


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_entry_is_listed_as_it_is(kind: Kind) -> None:
    told: list[Malformed] = []
    assert repair_entry(kind, WHOLE[kind], dropped=told) is WHOLE[kind]
    assert older(kind, WHOLE[kind]) is WHOLE[kind]
    assert told == []


@pytest.mark.parametrize("kind", WHOLE)
def test_a_broken_entry_takes_no_other_with_it(kind: Kind) -> None:
    for what, entry in broken(kind):
        merged = merged_with(kind, entry)
        for era in ("legacy", "modern"):
            names = [each["name"] for each in merged.page(kind, era=era)[kind]]
            assert len(names) in {2, 3}, what
            assert {name.rpartition("__")[2] for name in names} >= {"good"}, what
        if len(merged.entries(kind)) == 2:
            assert any("left out" in warned.sentence and warned.count for warned in merged.warnings), what


HARMLESS: Final[list[tuple[Kind, Json, Json]]] = [
    ("tools", {"description": None}, {}),
    ("tools", {"inputSchema": {}}, {"inputSchema": {"type": "object"}}),
    ("tools", {"inputSchema": []}, {"inputSchema": {"type": "object"}}),
    ("tools", {"inputSchema": {"type": None}}, {"inputSchema": {"type": "object"}}),
    ("tools", {"inputSchema": {"type": ["object", "null"]}}, {"inputSchema": {"type": "object"}}),
    (
        "tools",
        {"inputSchema": {"type": "object", "properties": []}},
        {"inputSchema": {"type": "object", "properties": {}}},
    ),
    (
        "tools",
        {"inputSchema": {"type": "object", "properties": None}},
        {"inputSchema": {"type": "object"}},
    ),
    ("tools", {"annotations": {"readOnlyHint": None}}, {"annotations": {}}),
    ("prompts", {"arguments": None}, {}),
    ("prompts", {"arguments": [{"name": "a", "description": None}]}, {"arguments": [{"name": "a"}]}),
    ("resources", {"size": None, "mimeType": None}, {}),
    ("resourceTemplates", {"annotations": {"audience": None}}, {"annotations": {}}),
]


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    HARMLESS,
)
def test_what_is_harmless_is_mended_and_not_told_of(kind: Kind, change: Json, expected: Json) -> None:
    told: list[Malformed] = []
    assert repair_entry(kind, {**GOOD[kind], **change}, dropped=told) == {**GOOD[kind], **expected}
    assert told == []


DECORATING: Final[list[tuple[Kind, Json, str]]] = [
    (
        "tools",
        {"annotations": {"readOnlyHint": "yes"}},
        "annotations.readOnlyHint is 'yes', not true or false",
    ),
    ("tools", {"icons": [{}]}, "icons.0.src is missing"),
    ("tools", {"outputSchema": {"type": "object", "pattern": "["}}, "outputSchema pattern has a value"),
    (
        "resources",
        {"annotations": {"lastModified": "2025-02-30T00:00:00Z"}},
        "annotations.lastModified is",
    ),
    ("resources", {"size": 1.5}, "size is a number, not a whole number"),
]


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    DECORATING,
)
def test_what_only_decorates_is_dropped_and_told_of(kind: Kind, change: Json, told: str) -> None:
    merged = merged_with(kind, {**WHOLE[kind], **change})
    assert len(merged.entries(kind)) == 3
    assert [warned.sentence for warned in merged.warnings if told in warned.sentence], merged.warnings
    assert all("odd" in warned.sentence and warned.server == "s0" for warned in merged.warnings)


NEEDED: Final[list[tuple[Kind, Json, str]]] = [
    ("tools", {"description": 3}, "the tool 'odd' is left out: description is a number, not a string"),
    (
        "tools",
        {"inputSchema": {"type": "array"}},
        "the tool 'odd' is left out: inputSchema.type is 'array', not 'object'",
    ),
    (
        "tools",
        {"inputSchema": {"type": "object", "required": True}},
        "inputSchema.required is true, not a list",
    ),
    (
        "tools",
        {"inputSchema": {"type": "object", "properties": {"a": 1}}},
        "inputSchema.properties.a is a number, not a schema",
    ),
    ("prompts", {"arguments": [{}]}, "the prompt 'odd' is left out: arguments.0.name is missing"),
    (
        "resources",
        {"description": []},
        "the resource 'odd:it' is left out: description is a list, not a string",
    ),
]


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    NEEDED,
)
def test_what_a_call_depends_on_leaves_the_entry_out(kind: Kind, change: Json, told: str) -> None:
    merged = merged_with(kind, {**WHOLE[kind], **change})
    assert len(merged.entries(kind)) == 2
    assert [warned for warned in merged.warnings if told in warned.sentence and warned.server == "s0"], (
        merged.warnings
    )


def test_other_results_than_objects_are_for_clients_of_2026_07_28() -> None:
    merged = merged_with("tools", {**WHOLE["tools"], "outputSchema": {"type": "array"}})
    modern, legacy = (merged.page("tools", era=era)["tools"] for era in ("modern", "legacy"))
    assert [tool.get("outputSchema") for tool in modern] == [None, {"type": "array"}, None]
    assert [tool.get("outputSchema") for tool in legacy] == [None, None, None]
    assert merged.warnings == ()


def test_schemas_of_arguments_that_are_booleans_are_written_as_objects_for_older_clients() -> None:
    tool: Json = {**GOOD["tools"], "inputSchema": {"type": "object", "properties": {"a": True, "b": False}}}
    assert repair_entry("tools", tool, dropped=[]) is tool
    assert older("tools", tool)["inputSchema"]["properties"] == {"a": {}, "b": {"not": {}}}


# --- schemas --------------------------------------------------------------------------------------


def test_a_schema_is_checked_in_linear_time() -> None:
    wide: Json = {
        "properties": {str(index): {"$ref": "#/$defs/a"} for index in range(20_000)},
        "$defs": {"a": {}},
    }
    assert schema_fault(wide) is None


PATTERNS: Final = (
    "^[a-z]+$", "a**", "(?i)a", r"^\d{3}-\d+$", "[z-a]", r"[a-\d]", "(a", "a)", "a{2,1}", "a{1,2}?", "(?=a)*", r"[\w\-]+",
    r"\-", "]", "{", "}", r"\Z", r"\A", "^(?:[A-Za-z0-9+/]{4})*$", "[]", "[^]", "x|", "|", "(?<n>a)(?<n>b)", r"[\u0041-Z]",
    "(a)?", "a??", "a???", "(?<=a+)b", r"\/", "[[]", r"[\]]", r"\p{L}+", r"\p{Odd}", r"\x4", r"\u12", "a{,3}", "*", "+", "()", "(?:)", "(?",
    "(?P<n>a)", r"\1", "(?#c)", "[a", "[a-", "[-a]", "[a-]", "^*", "$?", r"\b+", "(?!a){2}", "(?<!a)b", "é+", "[à-ü]", "\\", "a\\",
)  # fmt: skip


@pytest.mark.tools
def test_patterns_that_are_accepted_compile_in_node() -> None:
    script = "for (const p of JSON.parse(process.argv[1])) { try { new RegExp(p, 'u'); console.log(1) } catch { console.log(0) } }"
    done = subprocess.run(
        [str(node()), "-e", script, json.dumps(PATTERNS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    compiles = [line == "1" for line in done.stdout.split()]
    assert len(compiles) == len(PATTERNS)
    assert [
        pattern for pattern, good in zip(PATTERNS, compiles, strict=True) if is_pattern(pattern) and not good
    ] == []


# --- the hub --------------------------------------------------------------------------------------


async def test_what_is_left_out_is_told_once_and_counted() -> None:
    odd = ScriptedServer("odd", tools=[tool("good"), tool("bad", description=3), tool("part", icons=[{}])])
    harness = Harness(odd, ScriptedServer("other", tools=[tool("x")]))
    for era in ("legacy", "modern"):
        assert await harness.names(ScriptedClient(era)) == ["odd__good", "odd__part", "other__x"]
    told = [
        "the tool 'bad' is left out: description is a number, not a string",
        "the tool 'part' is listed without what clients refuse: icons.0.src is missing",
    ]
    assert harness.reports == [("odd", sentence) for sentence in told]
    rows = {row["name"]: row for row in harness.gateway.status()}
    assert (rows["odd"]["left_out"], rows["odd"]["warnings"]) == (1, told)
    assert (rows["other"]["left_out"], rows["other"]["warnings"]) == (0, [])
    assert harness.gateway.left_out() == {"odd": 1, "other": 0}


async def test_each_era_gets_its_own_form_of_a_tool() -> None:
    harness = Harness(ScriptedServer("s", tools=[tool("x", outputSchema={"type": "array"})]))
    modern, legacy = [
        result(await harness.ask(ScriptedClient(era), "tools/list"))["tools"] for era in ("modern", "legacy")
    ]
    assert modern[0]["outputSchema"] == {"type": "array"}
    assert "outputSchema" not in legacy[0]


async def test_a_large_catalogue_is_checked_beside_the_loop() -> None:
    harness = Harness(ScriptedServer("s", tools=[tool(f"x{index}") for index in range(3_000)]))
    began = asyncio.get_running_loop().time()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    waiting = asyncio.create_task(others())
    try:
        assert len(await harness.names(ScriptedClient())) == 1_000  # a page
    finally:
        waiting.cancel()
    assert turns > 10, asyncio.get_running_loop().time() - began


# --- results --------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(("method", "whole"), ANSWERS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_valid_result_stays_as_it_is(method: str, whole: Json, era: Era) -> None:
    assert repair_result(method, whole, era=era) is whole


def test_a_part_of_a_tool_s_result_that_no_client_reads_takes_no_other_with_it() -> None:
    given: Json = {
        "content": [
            {"type": "text", "text": "it", "annotations": None},
            {"type": "image"},
            {"type": "new"},
            3,
        ]
    }
    content = repair_result("tools/call", given, era="legacy")["content"]
    assert content[0] == {"type": "text", "text": "it"}
    assert "content.1.data is missing" in content[1]["text"]
    assert content[2] == {"type": "new"}
    assert "content.3 is a number, not an object" in content[3]["text"]


def test_structured_results_of_older_clients_are_objects() -> None:
    given: Json = {"content": [], "structuredContent": [1, 2]}
    assert repair_result("tools/call", given, era="modern") is given
    assert repair_result("tools/call", given, era="legacy") == {
        "content": [{"type": "text", "text": "[1,2]"}]
    }


async def test_a_result_that_cannot_be_mended_is_an_error_that_says_why() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(result={"contents": [{"uri": "a:b"}]})

    server = ScriptedServer(
        "s", resources=[{"uri": "a:b", "name": "b"}], capabilities={"resources": {}}, script=script
    )
    reply = await Harness(server).ask(ScriptedClient(), "resources/read", {"uri": "a:b"})
    assert error(reply)["data"]["reason"] == "invalid_answer"
    assert "contents.0.blob is missing" in error(reply)["message"]


# --- the official SDKs ----------------------------------------------------------------------------

CACHE: Final[Json] = {"ttlMs": 0, "cacheScope": "private"}
NODE_MODES: Final[dict[str, Era]] = {"1.x": "legacy", "2.x": "legacy", "2026-07-28": "modern"}
REVISIONS: Final[dict[str, Era]] = {
    "2024-11-05": "legacy",
    "2025-03-26": "legacy",
    "2025-06-18": "legacy",
    "2025-11-25": "legacy",
    "2026-07-28": "modern",
}


def refused(command: list[str], modes: dict[str, Era]) -> tuple[list[str], list[str]]:
    """What a peer refuses of all that is listed and answered, and of all that servers said; by
    revision and fault.
    """
    lines: list[str] = []
    whats: list[str] = []
    for what, method, given in broken_answers():
        for mode, era in modes.items():
            more = {"resultType": "complete"} if era == "modern" else {}
            if era == "modern" and method == "resources/read":
                more |= CACHE
            whats.append(f"theirs {mode} {what}")
            lines.append(json.dumps([mode, method, {**given, **more}]))
            with suppress(Malformed):
                ours = repair_result(method, given, era=era)
                whats.append(f"ours {mode} {what}")
                lines.append(json.dumps([mode, method, {**ours, **more}]))
    for kind, method in METHODS.items():
        for what, entry in broken(kind):
            merged = merged_with(kind, entry)
            for mode, era in modes.items():
                more = {"resultType": "complete"} | CACHE if era == "modern" else {}
                for said, page in (("ours", merged.page(kind, era=era)), ("theirs", {kind: [entry]})):
                    whats.append(f"{said} {mode} {kind} {what}")
                    lines.append(json.dumps([mode, method, {**page, **more}]))
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True, timeout=240
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    faults = [f"{what}: {answer}" for what, answer in zip(whats, answers, strict=True) if answer != "ok"]
    return [fault for fault in faults if fault.startswith("ours")], [
        fault for fault in faults if fault.startswith("theirs")
    ]


@pytest.mark.tools
@pytest.mark.timeout(300)
def test_clients_on_the_typescript_sdks_read_every_list() -> None:
    ours, theirs = refused([str(node()), str(PEERS / "lists.mjs"), f"{MODULES}/"], NODE_MODES)
    assert ours == []
    assert len(theirs) > 1_000  # or nothing was tried


@pytest.mark.tools
@pytest.mark.timeout(300)
def test_clients_on_the_python_sdk_read_every_list() -> None:
    ours, theirs = refused([python(), str(PEERS / "lists.py")], REVISIONS)
    assert ours == []
    assert len(theirs) > 1_000
