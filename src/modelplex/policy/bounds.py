"""Bounds of an allowed rule: the domains that a provider may search or fetch, and how often (`allow
= [{ rule = "web-search", domains = [...], max_uses = 3 }]`).

The config reads bounds, and the policy tables apply them. A request may narrow a bound and never
widen it; several bounds all apply. Imports core only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from modelplex.core.caller import Bound

BOUNDABLE = ("web-search", "web-fetch")
"""Rules that can have bounds: those of tools that access domains."""
DOMAIN = r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])"
"""A host name in lower case, without scheme, port, path or wildcard. It covers its subdomains."""
AllowEntry = str | Bound
"""An entry of `allow`: the name of a rule, or a rule within bounds."""


def rule_names(allowed: Iterable[AllowEntry]) -> frozenset[str]:
    return frozenset(each if isinstance(each, str) else each.rule for each in allowed)


def bounds_of(allowed: Iterable[AllowEntry]) -> frozenset[Bound]:
    return frozenset(each for each in allowed if isinstance(each, Bound))


class Limit(msgspec.Struct, frozen=True):
    """All bounds of one rule combined. `domains` is None for any domain, empty for none."""

    domains: tuple[str, ...] | None = None
    max_uses: int | None = None


def limit_for(bounds: Iterable[Bound], rule: str) -> Limit | None:
    """The domains that all bounds of a rule have in common, and the smallest number of uses. None
    if the rule has no bounds.
    """
    of_rule = sorted((each for each in bounds if each.rule == rule), key=lambda each: each.domains)
    if not of_rule:
        return None
    domains: tuple[str, ...] | None = None
    for each in of_rule:
        if each.domains:
            domains = each.domains if domains is None else intersect_domains(domains, each.domains)
    uses = [each.max_uses for each in of_rule if each.max_uses is not None]
    return Limit(domains=domains, max_uses=min(uses, default=None))


def intersect_domains(requested: Sequence[str], bound: Sequence[str]) -> tuple[str, ...]:
    """The domains that both lists cover, without duplicates: of two entries of which one covers the
    other, the narrower.
    """
    common = [inner for one in requested for other in bound if (inner := _narrower(one, other)) is not None]
    return tuple(dict.fromkeys(common))


def covers(outer: str, inner: str) -> bool:
    """Whether `inner` is the domain `outer` or a subdomain of it."""
    return inner == outer or inner.endswith(f".{outer}")


def _narrower(requested: str, bound: str) -> str | None:
    host, slash, _ = requested.partition("/")
    if covers(bound, host):
        return requested
    return bound if not slash and covers(host, bound) else None
