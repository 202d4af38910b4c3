"""What systemd is told, with a socket in its place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelplex.server.service_manager import ServiceManager, service_manager
from tests.processes import (
    WAIT_S,
    served,
)

DEMO = '[[providers]]\ntype = "demo"\n'


@contextmanager
def manager(path: Path) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(WAIT_S)
        yield receiver


def test_the_variables_are_for_this_process_alone() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    assert service_manager(environ).watchdog_seconds == 3.0
    assert environ == {"A": "b"}
    assert service_manager({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0
    assert service_manager({"WATCHDOG_USEC": "x"}).watchdog_seconds == 0


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "gone")).ready()
    ServiceManager("").ready()


async def test_an_abstract_address_and_the_watchdog(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        name = f"modelplex-test-{os.getpid()}"
        receiver.bind(f"\0{name}")
        receiver.settimeout(WAIT_S)
        beating = asyncio.create_task(ServiceManager(f"@{name}", watchdog_seconds=0.01).keep_alive())
        assert [await asyncio.to_thread(receiver.recv, 100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        beating.cancel()


@pytest.mark.parametrize("workers", [1, 2])
async def test_start_reload_and_stop_are_told(tmp_path: Path, workers: int) -> None:
    with manager(tmp_path / "notify") as receiver:
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        text = f"[server]\nworkers = {workers}\n{DEMO}"
        async with served(text, folder=tmp_path, environ=environ) as running:
            assert receiver.recv(100) == b"READY=1"
            running.signal(signal.SIGHUP)
            first, second = receiver.recv(100).split(b"\n")
            assert first == b"RELOADING=1"
            assert second.startswith(b"MONOTONIC_USEC=")
            assert second.partition(b"=")[2].isdigit()
            assert receiver.recv(100) == b"READY=1"
            running.signal(signal.SIGTERM)
            assert receiver.recv(100) == b"STOPPING=1"
