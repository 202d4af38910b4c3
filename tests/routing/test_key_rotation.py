"""Which key is tried first."""

from __future__ import annotations

from modelplex.core.request import Attempt
from modelplex.routing.key_rotation import KeyRotation

ATTEMPTS = [Attempt(provider="p", model="m", dialect="openai_chat", key=key) for key in range(3)]


def order(rotation: KeyRotation, *, provider: str = "p", caller: str = "a") -> list[int]:
    return [attempt.key for attempt in rotation.ordered(ATTEMPTS, provider=provider, caller=caller)]


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
