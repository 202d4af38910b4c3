"""JSON Schemas that the validators of MCP clients compile."""

from __future__ import annotations

import json
import subprocess
from typing import Final

import pytest

from modelplex.mcp.constants import Json
from modelplex.mcp.schemas import LONGEST_PATTERN, is_pattern, schema_fault
from tests.peers import node


def test_a_wide_schema_is_checked_in_linear_time() -> None:
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
def test_accepted_patterns_compile_in_node() -> None:
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


FAULTS: Final[list[tuple[Json, str | None]]] = [
    ({}, None),
    ({"type": ["string", "null"], "nullable": True}, None),
    ({"type": "string", "nullable": False}, None),
    ({"type": ["string", "null"], "nullable": False}, "nullable contradicts the type"),
    ({"nullable": True}, "nullable contradicts the type"),
    ({"type": "strin"}, "type has a value"),
    ({"type": []}, "type has a value"),
    ({"type": ["string", "string"]}, "type has a value"),
    ({"required": ["a", "a"]}, "required has a value"),
    ({"minLength": -1}, "minLength has a value"),
    ({"minLength": True}, "minLength has a value"),
    ({"multipleOf": 0}, "multipleOf has a value"),
    ({"enum": []}, "enum has a value"),
    ({"items": {"items": [{}]}}, "items.items is no schema"),
    ({"items": True}, None),
    ({"allOf": []}, "allOf is no list of schemas"),
    ({"anyOf": [{}, 3]}, "anyOf.1 is no schema"),
    ({"properties": []}, "properties is not understood"),
    ({"dependencies": {}}, "dependencies is not understood"),
    ({"$id": "x"}, "$id is not understood"),
    ({"patternProperties": {"(": {}}}, "patternProperties has a key"),
    ({"$ref": "#"}, None),
    ({"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {}}}, None),
    ({"$ref": "#/$defs/none"}, "$ref refers to nothing"),
    ({"$ref": "#anchor"}, "$ref refers to nothing"),
    ({"$ref": 3}, "$ref refers to nothing"),
    ({"$ref": "#/enum/0", "enum": [{}]}, "$ref refers to nothing"),
    ({"default": {"type": 3}, "const": {"allOf": 1}, "vendor": [1]}, None),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, None),
    ({"$schema": "http://json-schema.org/draft-04/schema#"}, "$schema has a value"),
]


@pytest.mark.parametrize(("schema", "fault"), FAULTS)
def test_the_first_fault_is_named_with_its_path(schema: Json, fault: str | None) -> None:
    found = schema_fault(schema)
    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(fault)


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [
        ("^[a-z]+$", True),
        ("a{2,1}", False),
        ("a{1,2}?", True),
        ("[z-a]", False),
        (r"[a-\d]", False),
        (r"[\u0041-Z]", True),
        ("(a", False),
        ("a)", False),
        ("(?=a)*", False),
        ("(?i)a", False),
        (r"\Z", False),
        ("a**", False),
        ("^*", False),
        ("x|", True),
        ("[]", True),
        ("x" * (LONGEST_PATTERN + 1), False),
        (3, False),
    ],
)
def test_a_pattern_is_a_regular_expression_of_ecma_262(pattern: object, accepted: bool) -> None:
    assert is_pattern(pattern) is accepted
