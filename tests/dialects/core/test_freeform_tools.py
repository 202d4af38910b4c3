"""Free-form tools as functions."""

import json

from modelplex.core.request import FreeformTool
from modelplex.dialects.core.freeform_tools import LEAVES, NO_PARAMETERS, WRAPPED, description_of


def test_the_function_takes_one_string() -> None:
    schema = json.loads(bytes(WRAPPED))
    assert (list(schema["properties"]), schema["required"]) == (["input"], ["input"])
    assert json.loads(bytes(NO_PARAMETERS)) == {"type": "object", "properties": {}}


def test_the_description_holds_the_grammar() -> None:
    assert description_of(FreeformTool("f")) == ""
    assert description_of(FreeformTool("f", "Runs it.")) == "Runs it."
    grammar = FreeformTool("f", "Runs it.", syntax="lark", definition="start: x")
    assert description_of(grammar) == "Runs it.\n\nThe input must match this lark grammar:\nstart: x"
    assert description_of(FreeformTool("f", definition="x")).startswith("The input must match this formal")


def test_every_leaf_of_a_free_form_tool_is_in_its_function_or_reported() -> None:
    structure = {"name", "namespace", "extra", "path", "members", "deferred", "loaded"}
    assert set(FreeformTool.__struct_fields__) == LEAVES | structure
