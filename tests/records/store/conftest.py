from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelplex.records.store.database import Database, open_database
from tests.records.store.server import fresh_database, postgresql

_names = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql() as address:
        yield address


@pytest.fixture
def postgresql_address(postgresql_server: str) -> Iterator[str]:
    with fresh_database(postgresql_server, f"records{next(_names)}") as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store in each of the two databases."""
    place = str(tmp_path / "records.sqlite")
    if request.param == "postgresql":
        place = request.getfixturevalue("postgresql_address")
    database = open_database(place)
    yield database
    database.close()
