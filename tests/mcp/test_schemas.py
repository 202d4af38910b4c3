"""JSON Schemas that the validators of MCP clients compile."""

from __future__ import annotations

import json
import subprocess
from typing import Final

import pytest

from modelplex.mcp.constants import Json
from modelplex.mcp.schemas import is_pattern, schema_fault
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
