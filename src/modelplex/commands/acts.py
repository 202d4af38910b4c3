"""`modelplex acts`: what admins changed through /_internal/, or were refused, the newest first."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from modelplex.commands.record import OK, WRONG, fail
from modelplex.commands.text import local_time, since, table
from modelplex.records.admin_act import AdminAct
from modelplex.records.store.database import Database
from modelplex.records.store.queries import recent_acts

HEAD = ("time", "host", "who", "from", "act", "target", "outcome", "request", "what")
MAX_DETAIL = 120
"""Characters of what changed that are shown; --json has the whole."""


def acts(arguments: argparse.Namespace, database: Database) -> int:
    try:
        start = None if arguments.since is None else since(arguments.since, now=time.time())
    except ValueError as error:
        return fail(f"--since: {error}", WRONG)
    found = recent_acts(database, since=start, run=arguments.run or "", limit=arguments.limit)
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        return OK
    sys.stdout.writelines(f"{row}\n" for row in table(HEAD, [act_row(act) for act in found]))
    return OK


def act_row(act: AdminAct) -> tuple[str, ...]:
    outcome = act.outcome if act.outcome == "ok" else f"{act.outcome} {act.code or act.error or ''}".rstrip()
    what = msgspec.json.encode(act.detail).decode() if act.detail else act.error or ""
    if act.omitted:
        what += f" (and {act.omitted} refused before it)"
    shown = what if len(what) <= MAX_DETAIL else f"{what[:MAX_DETAIL]}..."
    return (
        local_time(act.started),
        act.host or "-",
        who(act),
        place(act),
        act.act,
        act.target,
        outcome,
        act.id,
        shown,
    )


def who(act: AdminAct) -> str:
    agent = f", as the agent {act.agent}" if act.agent else ""
    return (f"{act.admin} ({act.by})" if act.admin else act.by) + agent


def place(act: AdminAct) -> str:
    process = "" if act.uid is None else f"pid {act.pid} uid {act.uid}"
    return " ".join(filter(None, (act.client or act.listener, process)))
