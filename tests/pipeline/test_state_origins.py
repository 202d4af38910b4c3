"""The origins of opaque state."""

from __future__ import annotations

import pytest

from modelplex.core.request import Attempt
from modelplex.pipeline import state_origins
from modelplex.pipeline.state_origins import StateOrigins


def attempt(provider: str, account: str) -> Attempt:
    return Attempt(provider=provider, model="m", dialect="openai_chat", account=account)


def test_a_state_is_found_in_either_alphabet_of_base64() -> None:
    origins = StateOrigins()
    origins.remember(("a+b/c",), attempt("p", "k"))
    assert origins.find("a+b/c") == origins.find("a-b_c") == ("p", "k")
    assert origins.find("other") is None


def test_the_oldest_are_forgotten_first_but_not_that_their_origin_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_origins, "REMEMBERED_STATES", 2)
    origins = StateOrigins()
    origins.remember(("1",), attempt("p", "k"))
    origins.remember(("2", "3"), attempt("q", "l"))
    assert [origins.find(state) for state in "123"] == [None, ("q", "l"), ("q", "l")]
    assert origins.seen == {("p", "k"), ("q", "l")}


def test_what_is_remembered_is_announced_and_can_be_learnt_from_hashes() -> None:
    here, there = StateOrigins(), StateOrigins()
    here.announce = there.learn
    here.remember((), attempt("p", "k"))
    assert there.seen == set()
    here.remember(("a+b", "c"), attempt("p", "k"))
    assert there.find("a-b") == there.find("c") == ("p", "k")
    assert there.seen == {("p", "k")}
