from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex import cli
from tests.commands.recorded import record_in
from tests.records.store.server import postgresql_address, postgresql_server

__all__ = ["postgresql_address", "postgresql_server"]

Printed = tuple[int, str, str]
"""Exit status, standard output, standard error."""


@pytest.fixture
def place(tmp_path: Path) -> str:
    return record_in(tmp_path)


@pytest.fixture
def modelplex(place: str, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Printed]:
    """Runs a command that reads the record of these tests."""

    def run(*words: str) -> Printed:
        status = cli.main([*words, "--store", place])
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return run
