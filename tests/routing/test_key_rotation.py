"""Which key is tried first."""

from __future__ import annotations

import msgspec

from modelplex.core.request import Attempt
from modelplex.routing.key_rotation import KeyRotation

ATTEMPTS = [Attempt(provider="p", model="m", dialect="openai_chat", key=key) for key in range(3)]


def order(rotation: KeyRotation, *, provider: str = "p", caller: str = "a") -> list[int]:
    attempts = [msgspec.structs.replace(attempt, provider=provider) for attempt in ATTEMPTS]
    return [attempt.key for attempt in rotation.preferred_first(attempts, caller=caller)]


def test_keys_stand_in_the_order_of_the_config() -> None:
    assert order(KeyRotation()) == [0, 1, 2]


def test_the_key_after_a_refused_one_comes_first_for_that_caller_and_provider_alone() -> None:
    rotation = KeyRotation()
    rotation.advance(ATTEMPTS[0], caller="a", keys=3)
    assert order(rotation) == [1, 2, 0]
    assert order(rotation, caller="b") == [0, 1, 2]
    assert order(rotation, provider="q") == [0, 1, 2]


def test_after_the_last_key_comes_the_first() -> None:
    rotation = KeyRotation()
    rotation.advance(ATTEMPTS[2], caller="a", keys=3)
    assert order(rotation) == [0, 1, 2]


def test_each_model_of_a_provider_keeps_its_place() -> None:
    rotation = KeyRotation()
    assert not rotation.any_preferred
    rotation.advance(ATTEMPTS[0], caller="a", keys=3)
    assert rotation.any_preferred
    others = [msgspec.structs.replace(attempt, model="n") for attempt in ATTEMPTS]
    other = Attempt(provider="q", model="m", dialect="openai_chat")
    ordered = rotation.preferred_first([*ATTEMPTS, other, *others], caller="a")
    assert [(each.provider, each.model, each.key) for each in ordered] == [
        *(("p", "m", key) for key in (1, 2, 0)),
        ("q", "m", 0),
        *(("p", "n", key) for key in (1, 2, 0)),
    ]
