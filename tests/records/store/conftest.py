from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelplex.records.store.database import Database, open_database
from tests.records.store.server import postgresql_address, postgresql_server

__all__ = ["postgresql_address", "postgresql_server"]


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store in each of the two databases."""
    place = str(tmp_path / "records.sqlite")
    if request.param == "postgresql":
        place = request.getfixturevalue("postgresql_address")
    database = open_database(place)
    yield database
    database.close()
