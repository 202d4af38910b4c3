"""Which aliases have a provider that can be used now."""

from __future__ import annotations

import pytest

from modelplex.routing.aliases import Directory, ServedModels
from modelplex.routing.circuit_breaker import CircuitState
from modelplex.routing.circuits import ANY_KEY, CircuitName, CircuitStatus
from modelplex.routing.readiness import unusable_aliases

SERVED = (
    ServedModels("one", names=frozenset({"m"})),
    ServedModels("two", names=frozenset({"m", "n"})),
)
KEYS = {"one": 2, "two": 1}


def circuit(
    provider: str, *, key: int = ANY_KEY, model: str = "", caller: str = "", state: str = "open"
) -> CircuitStatus:
    health = CircuitState(state=state, reason=f"{provider} is down")  # type: ignore[arg-type]
    return CircuitStatus(CircuitName(provider, key, model), caller, health)


@pytest.mark.parametrize(
    ("circuits", "unusable"),
    [
        ([], {}),
        ([circuit("one")], {}),
        ([circuit("one"), circuit("two")], {"fast": "one: one is down; two: two is down"}),
        ([circuit("one"), circuit("two", model="m")], {"fast": "one: one is down; two: two is down"}),
        ([circuit("one"), circuit("two", model="n")], {}),
        ([circuit("one"), circuit("two", caller="agent:a")], {}),
        ([circuit("one"), circuit("two", state="half_open")], {}),
        ([circuit("one", key=0), circuit("two", key=0)], {}),
        (
            [circuit("one", key=0), circuit("one", key=1), circuit("two", key=0)],
            {"fast": "one: one is down; two: two is down"},
        ),
    ],
)
def test_an_alias_needs_one_provider(circuits: list[CircuitStatus], unusable: dict[str, str]) -> None:
    directory = Directory(SERVED, {"fast": ("one/m", "two/m")})
    assert unusable_aliases(directory, circuits, keys=KEYS) == unusable


def test_an_alias_that_nobody_serves_and_a_pattern() -> None:
    none = unusable_aliases(Directory(SERVED, {"none": ("nobody-has-this",)}), [], keys=KEYS)
    assert none == {"none": "no provider is known to serve it"}
    assert "*" in unusable_aliases(Directory(SERVED, {"*": ("two/n",)}), [circuit("two")], keys=KEYS)


def test_without_aliases_one_provider_is_enough() -> None:
    directory = Directory(SERVED)
    assert unusable_aliases(directory, [circuit("one")], keys=KEYS) == {}
    assert "" in unusable_aliases(directory, [circuit("one"), circuit("two")], keys=KEYS)
