"""Which aliases have a provider that can be used now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from modelplex.core.errors import UnknownModel
from modelplex.routing.aliases import Candidate, Directory, is_pattern, resolve
from modelplex.routing.circuits import ALL_CALLERS, ANY_KEY, CircuitStatus


def unusable_aliases(
    directory: Directory, circuits: Collection[CircuitStatus], *, keys: Mapping[str, int]
) -> dict[str, str]:
    """Each alias for which no provider can be used, with the reason. `circuits` are the unhealthy
    ones, `keys` the number of keys of each provider. Without aliases, the name is "" if no provider
    at all can be used.
    """
    found: dict[str, str] = {}
    for alias, targets in directory.aliases.items():
        candidates = _candidates(directory, targets if is_pattern(alias) else (alias,))
        reason = _reason(candidates, circuits, keys=keys)
        if reason is not None:
            found[alias] = reason
    if not directory.aliases:
        every = [Candidate(served.provider, "") for served in directory.served]
        if (reason := _reason(every, circuits, keys=keys)) is not None:
            found[""] = reason
    return found


def _candidates(directory: Directory, names: Collection[str]) -> list[Candidate]:
    found: list[Candidate] = []
    for name in names:
        try:
            found += resolve(directory, name)
        except UnknownModel:
            continue
    return found


def _reason(
    candidates: Collection[Candidate], circuits: Collection[CircuitStatus], *, keys: Mapping[str, int]
) -> str | None:
    """Why none of them can be used; None if one can."""
    reasons: dict[str, str] = {}
    for candidate in candidates:
        reason = _blocked(candidate, circuits, keys=keys.get(candidate.provider, 0))
        if reason is None:
            return None
        reasons[candidate.provider] = reason
    if not reasons:
        return "no provider is known to serve it"
    return "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())


def _blocked(candidate: Candidate, circuits: Collection[CircuitStatus], *, keys: int) -> str | None:
    """Why nobody's request goes to it now: the circuit of the provider, of the model, or of every
    key is open.
    """
    open_keys: dict[int, str] = {}
    for circuit in circuits:
        name = circuit.name
        if (
            circuit.caller != ALL_CALLERS
            or circuit.health.state != "open"
            or name.provider != candidate.provider
            or name.model not in {"", candidate.model}
        ):
            continue
        if name.key == ANY_KEY:
            return circuit.health.reason
        open_keys[name.key] = circuit.health.reason
    return next(iter(open_keys.values())) if keys and len(open_keys) >= keys else None
