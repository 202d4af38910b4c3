"""`modelplex runs`: the recorded runs, the newest first."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from modelplex.commands.record import OK, WRONG, fail
from modelplex.commands.text import local_time, money, since, table
from modelplex.records.store.database import Database
from modelplex.records.store.queries import RunSummary, recent_runs

HEAD = ("run", "started", "agent", "calls", "tools", "failed", "refused", "tokens in", "out", "cost", "what")
MAX_COMMAND = 60
"""Characters of a command that are shown; `modelplex show` has the whole."""
_RIGHT = frozenset(range(3, 10))


def runs(arguments: argparse.Namespace, database: Database) -> int:
    try:
        start = None if arguments.since is None else since(arguments.since, now=time.time())
    except ValueError as error:
        return fail(f"--since: {error}", WRONG)
    found = recent_runs(
        database,
        since=start,
        agent=arguments.agent or "",
        host=arguments.host or "",
        limit=arguments.limit,
    )
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        return OK
    sys.stdout.writelines(f"{row}\n" for row in table(HEAD, [_row(run) for run in found], right=_RIGHT))
    return OK


def _row(run: RunSummary) -> tuple[str, ...]:
    what = [run.command if len(run.command) <= MAX_COMMAND else f"{run.command[:MAX_COMMAND]}..."]
    what = what if run.command else []
    what += [f"{run.repository}@{run.branch}"] if run.branch else []
    what += [f"{name}={value}" for name, value in run.tags.items()]
    cost = money(run.cost) + "+" * bool(run.unpriced)
    numbers = (run.calls, run.tool_calls, run.failed, run.refused, run.tokens_in, run.tokens_out)
    return (run.id, local_time(run.started), run.agent or "-", *map(str, numbers), cost, "; ".join(what))
