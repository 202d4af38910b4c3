"""`modelplex certify`: what held of a run, from its records alone.

A check holds, does not hold, or was not measured. Nothing is concluded from a setting that was not
recorded with the run.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from modelplex.commands.record import FAILED, OK, fail
from modelplex.commands.text import count, line
from modelplex.records.run_facts import RunFacts
from modelplex.records.store.database import Database
from modelplex.records.store.queries import calls_of_run, facts_of_run, one_call, one_run
from modelplex.records.store.rows import CallSummary
from modelplex.records.store.verify import verify_run

LOOPBACK = "lo"
NOT_MEASURED = "not measured: the run is of an older version, or had no sandbox that a gateway of runs knew"


class Check(msgspec.Struct, frozen=True):
    """`held` is None where nothing was measured."""

    name: str
    held: bool | None
    text: str


class BytesOut(msgspec.Struct, frozen=True):
    """What left the sandbox through the gateway: the bodies of requests to providers, None where
    their sizes were not recorded, and the arguments of calls of tools.
    """

    to_providers: int | None
    requests: int
    to_tools: int
    tool_calls: int


class RunCertificate(msgspec.Struct, frozen=True):
    """`holds`: every check held."""

    run: str
    holds: bool
    checks: list[Check]
    models: dict[str, int]
    tools: dict[str, int]
    bytes_out: BytesOut
    version: list[str]
    config: list[str]


def certify(arguments: argparse.Namespace, database: Database) -> int:
    """1 where something did not hold, or was not measured."""
    run = one_run(database, arguments.run)
    if run is None:
        return fail(f"there is no run {line(arguments.run)} in {database.place}.")
    made = certificate(database, run.id)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(made) + b"\n")
    else:
        sys.stdout.writelines(f"{text}\n" for text in _lines(made))
    return OK if made.holds else FAILED


def certificate(database: Database, run: str) -> RunCertificate:
    """Raises StoreUnavailable."""
    facts, calls = facts_of_run(database, run), calls_of_run(database, run)
    checks = [*_of_facts(facts, calls), _chain(database, run)]
    models = Counter(
        f"{each.model} of {each.provider}" for each in calls if each.kind == "model" and each.provider
    )
    tools = Counter(f"{each.tool} of {each.server}" for each in calls if each.kind == "tool" and each.server)
    return RunCertificate(
        run=run,
        holds=all(check.held is True for check in checks),
        checks=checks,
        models=dict(sorted(models.items())),
        tools=dict(sorted(tools.items())),
        bytes_out=_bytes_out(database, calls, is_known=bool(facts)),
        version=list(dict.fromkeys(each.version for each in facts)),
        config=list(dict.fromkeys(each.config for each in facts)),
    )


# --- checks ---


def _of_facts(facts: Sequence[RunFacts], calls: Sequence[CallSummary]) -> Iterator[Check]:
    if not facts:
        for name in ("network", "openings", "policy"):
            yield Check(name, None, NOT_MEASURED)
        return
    yield _network(facts[0])
    opened = facts[0].sandbox.openings
    yield Check(
        "openings",
        not opened,
        f"opened besides the gateway: {line(', '.join(opened))}" if opened else "nothing besides the gateway",
    )
    yield _policy(facts, calls)


def _policy(facts: Sequence[RunFacts], calls: Sequence[CallSummary]) -> Check:
    open_for = [each for each in facts if not each.sealed]
    allowed = sorted({rule for each in facts for rule in each.allowed})
    if open_for:
        when = "" if len(facts) == 1 else f", in {len(open_for)} of {len(facts)} versions of the config"
        return Check("policy", False, f"not sealed{when}")
    others = sorted({call.agent for call in calls}.difference(each.agent for each in facts))
    if others:
        named = line(", ".join(each or "no agent" for each in others))
        return Check("policy", None, f"for calls of {named}, by its token")
    rules = f", with {line(', '.join(allowed))} allowed" if allowed else ""
    return Check("policy", True, f"sealed{rules}")


def _network(facts: RunFacts) -> Check:
    sandbox = facts.sandbox
    wrong: list[str] = []
    others = [name for name in sandbox.interfaces if name != LOOPBACK]
    if others:
        wrong.append(f"interfaces {line(', '.join(others))}")
    if sandbox.routes:
        wrong.append(f"{count(sandbox.routes, 'route')} that do not end at {LOOPBACK}")
    if not sandbox.own_network:
        wrong.append("the network namespace of the host")
    if wrong:
        return Check("network", False, f"inside there were {'; '.join(wrong)}")
    return Check(
        "network", True, f"no interface but {LOOPBACK}, and no route out, measured inside at the start"
    )


def _chain(database: Database, run: str) -> Check:
    verdict = verify_run(database, run)
    if verdict.faults:
        more = f" (and {len(verdict.faults) - 1} more: modelplex verify {run})" if verdict.faults[1:] else ""
        return Check("chain", False, line(verdict.faults[0]) + more)
    assert verdict.key is not None
    text = f"{count(verdict.records, 'record')}, all as written; signed by ed25519:{verdict.key.hex()}"
    return Check("chain", True, text)


# --- what left ---


def _bytes_out(database: Database, calls: Sequence[CallSummary], *, is_known: bool) -> BytesOut:
    sent: list[int] = []
    for call in calls:
        found = one_call(database, call.id) if call.kind == "model" and call.attempts else None
        if found is not None:
            sent += [attempt.bytes_sent for attempt in found.detail.attempts if attempt.bytes_sent]
    tools = [call for call in calls if call.kind == "tool" and call.server]
    return BytesOut(
        to_providers=sum(sent) if is_known else None,
        requests=len(sent),
        to_tools=sum(call.bytes_in for call in tools),
        tool_calls=len(tools),
    )


def _lines(made: RunCertificate) -> Iterator[str]:
    for check in made.checks:
        word = {True: "held", False: "did not hold", None: "not measured"}[check.held]
        yield f"{check.name:<9} {word}: {check.text}"
    yield f"models    {_counted(made.models)}"
    yield f"tools     {_counted(made.tools)}"
    left = made.bytes_out
    providers = (
        "not recorded what went to providers"
        if left.to_providers is None
        else f"{left.to_providers} in {count(left.requests, 'request')} to providers"
    )
    yield f"bytes out {providers}, {left.to_tools} in {count(left.tool_calls, 'call')} of tools"
    if made.version:
        yield f"gateway   {', '.join(made.version)}"
        yield f"config    {', '.join(f'sha256:{each}' if each else 'none' for each in made.config)}"
    wrong = [check.name for check in made.checks if check.held is not True]
    verdict = "all of this held" if made.holds else f"not certified: {', '.join(wrong)}"
    yield f"{made.run}: {verdict}"


def _counted(names: Mapping[str, int]) -> str:
    return line(", ".join(f"{name} ({number})" for name, number in names.items())) or "none"
