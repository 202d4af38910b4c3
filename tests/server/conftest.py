"""Fixtures of the tests of listeners and connections."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from modelplex.server import connection_limits, listeners
from modelplex.server.address import Address, Tcp, Unix
from tests.server.harness import Run


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


@pytest.fixture(params=["tcp", "unix"])
def address(request: pytest.FixtureRequest, short: Path) -> Address:
    return Tcp("127.0.0.1", 0) if request.param == "tcp" else Unix(str(short / "s"))


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path: a socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(listeners, "STOPPING_SECONDS", 0.3)
    monkeypatch.setattr(listeners, "CANCELLED_SECONDS", 0.3)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users may enter. pytest closes its own folders again when another session
    starts.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
