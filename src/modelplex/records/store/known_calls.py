"""Finds the calls in the store that a new one extends."""

from __future__ import annotations

from collections.abc import Sequence

from modelplex.records.store.conversations import KnownCall
from modelplex.records.store.database import Database, Row

_COLUMNS = "id, run, context, started"


class StoredCalls:
    """The Lookup of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"<StoredCalls {self._database.place}>"

    def by_turns(self, turns: Sequence[bytes], /) -> KnownCall | None:
        if not turns:
            return None
        marks = ", ".join("?" * len(turns))
        return _first(
            self._database.query(
                f"SELECT {_COLUMNS} FROM calls WHERE node IN ({marks}) "  # noqa: S608 - marks only
                "ORDER BY messages DESC, started DESC LIMIT 1",
                list(turns),
            )
        )

    def by_response(self, response_id: str, /) -> KnownCall | None:
        return _first(
            self._database.query(
                f"SELECT {_COLUMNS} FROM calls WHERE response_id = ? ORDER BY started DESC LIMIT 1",  # noqa: S608 - our own names
                (response_id,),
            )
        )


def _first(found: Sequence[Row]) -> KnownCall | None:
    for id_, run, context, at in found:
        return KnownCall(id_, run, None if context is None else bytes(context), at)
    return None
