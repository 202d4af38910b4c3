"""Instructions of a Responses body that passes to a service with a strict chat template."""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.request import Quirks
from modelplex.dialects.core.turns import SYSTEM_NOTE
from modelplex.dialects.openai_responses.instructions import amended_instructions
from tests.dialects.openai_responses.peer import make_ask

STRICT = Quirks(system_messages="first")
USER = {"role": "user", "content": "x"}


def item(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def amended(body: dict[str, Any], quirks: Quirks = STRICT) -> Any:
    found = amended_instructions(make_ask(**body), quirks)
    return found and (
        {name: msgspec.json.decode(value or b"null") for name, value in found[0].items()},
        [(each.op, each.path) for each in found[1]],
    )


def test_leading_items_join_the_instructions() -> None:
    body = {"instructions": "i", "input": [item("developer", "d"), USER, item("system", "s")]}
    note = {"type": "message", "role": "user", "content": SYSTEM_NOTE + "s"}
    assert amended(body) == (
        {"instructions": "i\n\nd", "input": [USER, note]},
        [("move", "input[0]"), ("lower", "input[2]")],
    )
    assert amended(body, Quirks()) is None


def test_one_leading_item_stays_where_there_are_no_instructions() -> None:
    assert amended({"input": [item("developer", "d"), USER]}) is None
    assert amended({"input": [item("developer", "d"), item("system", "s"), USER]}) == (
        {"instructions": "d\n\ns", "input": [USER]},
        [("move", "input[0]"), ("move", "input[1]")],
    )
    later = amended({"input": [item("developer", "d"), USER, item("developer", "e")]})
    assert [each["role"] for each in later[0]["input"]] == ["developer", "user", "user"]


def test_other_bodies_pass_as_they_are() -> None:
    for given in ('a text about "system"', [USER], [{"role": "system", "content": 3}], 5):
        assert amended({"instructions": "i", "input": given}) is None
