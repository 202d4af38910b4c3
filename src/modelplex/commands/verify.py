"""`modelplex verify`: whether the record of a run is as the gateway wrote it."""

from __future__ import annotations

import argparse
import sys

from modelplex.commands.record import FAILED, OK, fail
from modelplex.commands.text import count, line
from modelplex.records.store.database import Database
from modelplex.records.store.queries import one_run
from modelplex.records.store.verify import verify_run


def verify(arguments: argparse.Namespace, database: Database) -> int:
    """1 where a record was edited, removed, added or moved; each is named."""
    run = one_run(database, arguments.run)
    if run is None:
        return fail(f"there is no run {line(arguments.run)} in {database.place}.")
    verdict = verify_run(database, run.id)
    for fault in verdict.faults:
        sys.stdout.write(f"{run.id}: {line(fault)}\n")
    if verdict.faults:
        return FAILED
    assert verdict.key is not None
    sys.stdout.write(
        f"{run.id}: {count(verdict.records, 'record')}, all as written; signed by ed25519:{verdict.key.hex()}\n"
    )
    return OK
