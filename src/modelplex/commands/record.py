"""Opens the record that a command reads, and runs the command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Final

from modelplex.config import Config
from modelplex.records.store.database import Database, StoreError
from modelplex.server.record_store import open_to_read, store_place

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Returns the exit status: 1 where there is no such record, 2 where an argument is wrong."""
    if arguments.command == "telemetry":
        from modelplex.commands.telemetry import telemetry

        return telemetry(arguments, config)
    try:
        database = open_to_read(arguments.store or store_place(config, os.environ))
    except StoreError as error:
        return fail(error.sentence)
    try:
        return _command(arguments.command)(arguments, database)
    except StoreError as error:
        return fail(error.sentence)
    finally:
        database.close()


def _command(name: str) -> Callable[[argparse.Namespace, Database], int]:
    match name:
        case "runs":
            from modelplex.commands.runs import runs

            return runs
        case "show":
            from modelplex.commands.show import show

            return show
        case "usage":
            from modelplex.commands.usage import usage

            return usage
        case "tail":
            from modelplex.commands.tail import tail

            return tail
        case "verify":
            from modelplex.commands.verify import verify

            return verify
        case "acts":
            from modelplex.commands.acts import acts

            return acts
        case "certify":
            from modelplex.commands.certify import certify

            return certify
        case _:
            from modelplex.commands.export import export

            return export


def fail(sentence: str, status: int = FAILED) -> int:
    sys.stderr.write(f"modelplex: {sentence}\n")
    return status
