"""A real PostgreSQL for the tests, from Debian's package `postgresql`: a cluster of its own in a
temporary folder, on a Unix socket alone.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

WAIT_S = 60
"""A bound on each of its programs, far above what any needs."""
USER = "postgres"
"""The server does not run as root."""


def programs() -> Path | None:
    """The folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def postgresql() -> Generator[str]:
    """The address of an empty database. Skips where there is no server."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed")
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="mpx-pg-", dir="/tmp"))
    try:
        if as_user:
            shutil.chown(folder, USER, USER)

        def run(name: str, *arguments: str) -> None:
            command = [*as_user, str(binaries / name), "--pgdata", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, timeout=WAIT_S, cwd="/", stdout=subprocess.DEVNULL)

        run("initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C")
        settings = (
            f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=20"
        )
        run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", settings)
        try:
            yield f"postgresql://{USER}@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "--mode=immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server: str, name: str) -> Generator[str]:
    """A database of its own on this server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    yield server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


_names = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql() as address:
        yield address


@pytest.fixture
def postgresql_address(postgresql_server: str) -> Iterator[str]:
    with fresh_database(postgresql_server, f"records{next(_names)}") as address:
        yield address
