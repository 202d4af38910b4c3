"""Checks of the bounds of opened policy rules."""

from __future__ import annotations

from collections.abc import Iterator

from modelplex.config.lint.finding import ConfigFinding, LintContext
from modelplex.config.toml_positions import Path as Place
from modelplex.policy.bounds import AllowEntry, bounds_of, limit_for


def disjoint_bounds(context: LintContext) -> Iterator[ConfigFinding]:
    """Bounds of one rule without a common domain, for an agent or for a provider."""
    config, allow = context.config, context.config.policy.allow
    by_socket, by_http = (*allow.everywhere, *allow.socket), (*allow.everywhere, *allow.http)
    holders: list[tuple[Place, str, tuple[AllowEntry, ...], tuple[tuple[AllowEntry, ...], ...]]] = []
    for index, agent in enumerate(config.agents):
        inherited = (by_socket,) if agent.token is None else (by_socket, by_http)
        holders.append((("agents", index, "allow"), f"agent {agent.name}", agent.allow, inherited))
    for index, provider in enumerate(config.providers):
        place: Place = ("providers", index, "allow")
        holders.append((place, f"provider {provider.name}", provider.allow, (by_socket, by_http)))
    for place, whom, allowed, listeners in holders:
        for bound in bounds_of(allowed):
            limits = [limit_for(bounds_of((*inherited, *allowed)), bound.rule) for inherited in listeners]
            if all(limit is not None and limit.domains == () for limit in limits):
                yield context.warning(
                    "bounds-apart",
                    place,
                    f"{bound.rule} is open for {whom} within bounds that have no domain in common with those of [policy.allow]: "
                    "all bounds apply, so nothing passes",
                    "leave the rule out of [policy.allow], or name a common domain",
                )


def unused_bounds(context: LintContext) -> Iterator[ConfigFinding]:
    """Bounds that limit the sealed policy, for callers that are not sealed."""
    config, policy, allow = context.config, context.config.policy, context.config.policy.allow
    any_agent = any(agent.policy == "sealed" for agent in config.agents)
    sockets, http = policy.socket == "sealed" or any_agent, policy.http == "sealed" or any_agent
    written: list[tuple[Place, tuple[AllowEntry, ...], bool]] = [
        (("policy", "allow", "everywhere"), allow.everywhere, sockets or http),
        (("policy", "allow", "socket"), allow.socket, sockets),
        (("policy", "allow", "http"), allow.http, http),
    ]
    for index, agent in enumerate(config.agents):
        inherited = policy.socket == "sealed" or (agent.token is not None and policy.http == "sealed")
        is_sealed = inherited if agent.policy is None else agent.policy == "sealed"
        written.append((("agents", index, "allow"), agent.allow, is_sealed))
    for index, provider in enumerate(config.providers):
        written.append((("providers", index, "allow"), provider.allow, sockets or http))
    for place, allowed, is_sealed in written:
        if bounds_of(allowed) and not is_sealed:
            yield context.error(
                "bounds-unused",
                place,
                "these bounds apply to sealed callers only, and these callers are not sealed",
                'set the policy of these callers to "sealed", or leave the bounds out',
            )
