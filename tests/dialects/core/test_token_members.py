"""The members by which a provider is asked for token ids."""

from __future__ import annotations

import json

import pytest

from modelplex.core.request import Change
from modelplex.dialects.core.token_members import REASON, TokenMembers, with_token_members

MEMBERS = TokenMembers(whole={"ids": True, "logprobs": True}, stream={"n": 1})


def asked(body: object, *, stream: bool = False, refused: frozenset[str] = frozenset()) -> tuple[object, ...]:
    found = with_token_members(json.dumps(body).encode(), MEMBERS, stream=stream, refused=refused)
    return json.loads(found.body), [change.path for change in found.changes], found.withholds


@pytest.mark.parametrize(
    ("body", "sent", "added", "withholds"),
    [
        ({"m": 1.0}, {"m": 1.0, "ids": True, "logprobs": True}, ["ids", "logprobs"], True),
        ({"ids": None}, {"ids": True, "logprobs": True}, ["ids", "logprobs"], True),
        ({"logprobs": True}, {"logprobs": True, "ids": True}, ["ids"], False),
        ({"logprobs": False, "ids": False}, {"logprobs": False, "ids": False}, [], True),
    ],
)
def test_what_the_client_has_not_set_is_added(
    body: object, sent: object, added: object, withholds: bool
) -> None:
    assert asked(body) == (sent, added, withholds)


def test_what_the_provider_refused_is_not_asked_again() -> None:
    assert asked({}, refused=frozenset({"ids"})) == ({"logprobs": True}, ["logprobs"], True)


def test_a_stream_has_its_own_members() -> None:
    assert asked({"tools": []}, stream=True) == ({"tools": [], "n": 1}, ["n"], True)


def test_a_stream_without_any_is_left_alone_and_reported() -> None:
    body = b'{"tools": [{}]}'
    found = with_token_members(body, MEMBERS, stream=True, refused=frozenset())
    reason = f"{REASON}: the provider returns none in a stream with tools"
    assert (found.body, found.changes) == (body, (Change("drop", "tokens", reason),))


def test_a_body_that_cannot_be_read_stays() -> None:
    assert with_token_members(b"no", MEMBERS, stream=False, refused=frozenset()).body == b"no"
