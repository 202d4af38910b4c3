"""A real PostgreSQL for the tests, from Debian's package `postgresql`: a cluster of its own in a
temporary folder, on a Unix socket alone.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
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
    # It ends with this process, however that ends.
    as_user = ["setpriv", "--pdeathsig=SIGINT"]
    as_user += [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="mpx-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        data = ["-D", str(folder / "data")]
        made = [*data, "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C"]
        command = [*as_user, str(binaries / "initdb"), *made]
        subprocess.run(command, check=True, timeout=WAIT_S, cwd="/", stdout=subprocess.DEVNULL)
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "max_connections=20",
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        command = [*as_user, str(binaries / "postgres"), *data, *options]
        with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL) as server:
            try:
                address = f"postgresql://{USER}@/postgres?host={folder}"
                _wait(address)
                yield address
            finally:
                server.send_signal(signal.SIGINT)  # it ends its sessions, and then itself
                server.wait(WAIT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(address: str) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


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
