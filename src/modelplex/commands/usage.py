"""`modelplex usage`: calls, tokens and cost, added up."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence

import msgspec

from modelplex.commands.record import OK, WRONG, fail
from modelplex.commands.text import money, since, table
from modelplex.records.store.database import Database
from modelplex.records.store.queries import CallFilter, UsageRow, is_group
from modelplex.records.store.queries import usage as added_up

NUMBERS = (
    *("calls", "failed", "refused", "stripped"),
    *("tokens_in", "cache_read", "cache_write", "tokens_out", "reasoning", "cost", "unpriced"),
)
"""Members of a row, which are the names of CSV's columns and of JSON's members."""
SHOWN = ("calls", "failed", "refused", "tokens_in", "cache_read", "tokens_out", "cost")
_HEADS = {"tokens_in": "tokens in", "cache_read": "of it cached", "tokens_out": "tokens out"}


def usage(arguments: argparse.Namespace, database: Database) -> int:
    by = [name.strip() for name in arguments.by.split(",") if name.strip()]
    if unknown := [name for name in by if not is_group(name)]:
        return fail(f'--by: usage cannot be grouped by "{unknown[0]}"', WRONG)
    try:
        start = None if arguments.since is None else since(arguments.since, now=time.time())
    except ValueError as error:
        return fail(f"--since: {error}", WRONG)
    rows = added_up(database, by=by, where=CallFilter(since=start))
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n")
    elif arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([*by, *NUMBERS])
        writer.writerows([*row.group.values(), *(getattr(row, name) for name in NUMBERS)] for row in rows)
    else:
        sys.stdout.writelines(f"{row}\n" for row in as_table(rows, by))
    return OK


def as_table(rows: Sequence[UsageRow], by: Sequence[str]) -> list[str]:
    """With a last line for all rows, unless a call may be in several of them."""
    lines = [(*(value or "-" for value in row.group.values()), *map(str, _shown(row))) for row in rows]
    if by and "tag" not in by and len(rows) > 1:
        sums = [sum(getattr(row, name) for row in rows) for name in SHOWN]
        lines.append(("all", *[""] * (len(by) - 1), *map(str, sums[:-1]), money(sums[-1])))
    head = (*by, *(_HEADS.get(name, name) for name in SHOWN))
    return table(head, lines, right=frozenset(range(len(by), len(head))))


def _shown(row: UsageRow) -> list[str]:
    numbers = [str(getattr(row, name)) for name in SHOWN[:-1]]
    return [*numbers, money(row.cost) + "+" * bool(row.unpriced)]
