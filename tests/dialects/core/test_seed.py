"""The seed of a run in a body for a provider."""

from __future__ import annotations

import json

import pytest

from modelplex.core.request import Change
from modelplex.dialects.core.seed import REASON, with_seed

ADDED = Change("add", "seed", f"{REASON}: 7")


@pytest.mark.parametrize(
    ("body", "path", "seeded"),
    [
        ({"model": "m"}, ("seed",), {"model": "m", "seed": 7}),
        ({"seed": None}, ("seed",), {"seed": 7}),
        ({"a": 1}, ("options", "seed"), {"a": 1, "options": {"seed": 7}}),
        ({"options": {"top_k": 1}}, ("options", "seed"), {"options": {"top_k": 1, "seed": 7}}),
        ({"options": None}, ("options", "seed"), {"options": {"seed": 7}}),
    ],
)
def test_it_is_set_where_the_dialect_has_it(body: object, path: tuple[str, ...], seeded: object) -> None:
    found, change = with_seed(json.dumps(body).encode(), path, 7, refused=False)
    assert (json.loads(found), change) == (seeded, ADDED)


@pytest.mark.parametrize("body", [b'{"seed": 3}', b"no json", b'{"options": 5}'])
def test_a_clients_own_seed_and_what_cannot_be_read_stay(body: bytes) -> None:
    path = ("options", "seed") if b"options" in body else ("seed",)
    assert with_seed(body, path, 7, refused=False) == (body, None)


@pytest.mark.parametrize(("path", "refused"), [((), False), (("seed",), True)])
def test_a_provider_without_one_is_reported(path: tuple[str, ...], refused: bool) -> None:
    body, change = with_seed(b"{}", path, 7, refused=refused)
    assert (body, change) == (b"{}", Change("drop", "seed", f"{REASON}: the provider takes none"))


def test_other_members_keep_their_bytes() -> None:
    found, _ = with_seed(b'{"temperature": 1.0e0, "x": [1,  2]}', ("seed",), 7, refused=False)
    assert found == b'{"temperature":1.0e0,"x":[1,  2],"seed":7}'
