"""Reasoning items without a seal, in bodies that pass."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.core.request import Attempt, Quirks
from modelplex.dialects.openai_responses.dialect import amend
from tests.dialects.openai_responses.peer import make_ask

USER = {"role": "user", "content": "x"}
UNSEALED: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
SEALED = {**UNSEALED, "id": "rs_2", "encrypted_content": "gAAA"}


def amended(items: Any, **quirks: Any) -> tuple[Any, list[tuple[str, str]]]:
    attempt = Attempt(
        provider="p", model="m", dialect="openai_responses", endpoint="responses", quirks=Quirks(**quirks)
    )
    found = amend(make_ask(input=items, store=False), attempt)
    if found is None:
        return None, []
    return msgspec.json.decode(found.members["input"] or b""), [(c.op, c.path) for c in found.changes]


def test_an_item_without_a_seal_is_left_out() -> None:
    assert amended([USER, UNSEALED, SEALED, {**UNSEALED, "encrypted_content": None}]) == (
        [USER, SEALED],
        [("drop", "input[1]"), ("drop", "input[3]")],
    )


@pytest.mark.parametrize("items", [[USER, SEALED], 'a text of "rs_1"', [USER], [USER, 3, UNSEALED]])
def test_other_bodies_pass(items: Any) -> None:
    assert amended(items) == (None, [])


def test_a_service_that_takes_earlier_reasoning_gets_it() -> None:
    assert amended([USER, UNSEALED], reasoning_back="reasoning") == (None, [])
