"""Schemas of tools as OpenAI and Anthropic take them: an object with `properties`, and no
combination of schemas at its top. Imports no dialect.

Both answer a request with such a tool with 400 ("does not support oneOf, allOf, or anyOf at the top
level"), whatever its other tools are:
platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools and
platform.openai.com/docs/guides/function-calling.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from modelplex.core.request import Quirks, Tool
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.ledger import Ledger, tool_path

COMBINED = "tools.parameters.combined"
"""In `Quirks.refuses`: no combination of schemas at the top of a tool's parameters."""
LONGEST_NOTE = 2000
"""Characters of a combination that are told in the description: more than its lists of required
members take, and not a second copy of a large schema.
"""
_COMBINING = ("allOf", "anyOf", "oneOf")
_Schema = dict[str, Any]
_decode = msgspec.json.Decoder().decode


def plain_parameters(tool: Tool, parameters: msgspec.Raw, ledger: Ledger, quirks: Quirks) -> msgspec.Raw:
    """The parameters of a tool as the service takes them; unchanged where they are."""
    try:
        schema = _decode(parameters)
    except MALFORMED:
        return parameters
    if not isinstance(schema, dict):
        return parameters
    given = cast("_Schema", schema)
    written: _Schema = given
    if COMBINED in quirks.refuses:
        for name in _COMBINING:
            if name in given:
                written = _merged(written, name)
                ledger.change(
                    "lower",
                    f"{tool_path(tool, 'parameters')}.{name}",
                    "not taken at the top here: its properties are merged",
                )
    if written.get("type") == "object" and "properties" not in written:
        written = {**written, "properties": {}}
        path = f"{tool_path(tool, 'parameters')}.properties"
        ledger.change("add", path, "an object without properties is refused here")
    return parameters if written is given else msgspec.Raw(msgspec.json.encode(written))


def _merged(schema: _Schema, name: str) -> _Schema:
    """The schema without this combination: with the properties of all its branches, of which those
    are required that every branch requires, or any branch of `allOf`. The description tells the
    rest.
    """
    combined: object = schema[name]
    left = {key: value for key, value in schema.items() if key != name}
    listed = cast("list[object]", combined) if isinstance(combined, list) else []
    branches = [cast("_Schema", branch) for branch in listed if isinstance(branch, dict)]
    properties: _Schema = {}
    for branch in branches:
        properties |= _object(branch.get("properties"))
    required = [_names(branch.get("required")) for branch in branches]
    needed: set[str] = set[str]().union(*required)
    if name != "allOf":
        needed = {each for each in needed if all(each in names for names in required)}
    always = _names(left.get("required"))
    left |= {"type": "object", "properties": {**properties, **_object(left.get("properties"))}}
    if always or needed:
        left["required"] = sorted(always | needed)
    if name == "allOf" and all(branch.keys() <= {"type", "properties", "required"} for branch in branches):
        return left
    note = msgspec.json.encode({name: combined}).decode()
    if len(note) <= LONGEST_NOTE:
        left["description"] = "\n\n".join(filter(None, (left.get("description"), f"It must match: {note}")))
    return left


def _object(value: object) -> _Schema:
    return cast("_Schema", value) if isinstance(value, dict) else {}


def _names(value: object) -> set[str]:
    return (
        {name for name in cast("list[object]", value) if isinstance(name, str)}
        if isinstance(value, list)
        else set()
    )
