"""Where the admin sockets of runs are."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from modelplex.config.run_sockets import MAX_PATH, new_run_socket, run_sockets


def test_sockets_are_in_a_private_folder_and_are_found(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert run_sockets(environ) == []
    path = new_run_socket("7", environ=environ)
    folder = tmp_path / "modelplex" / "runs"
    assert path == str(folder / "7.socket")
    assert [each.stat().st_mode & 0o777 for each in (folder, folder.parent)] == [0o700, 0o700]
    for name in ("7.socket", "7.socket.lock", "3.socket"):
        (folder / name).touch()
    assert run_sockets(environ) == [f"{folder}/3.socket", f"{folder}/7.socket"]


def test_sockets_of_runs_that_were_killed_are_removed(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert new_run_socket("7", environ=environ) is not None
    folder = tmp_path / "modelplex" / "runs"
    with (
        socket.socket(socket.AF_UNIX) as live,
        socket.socket(socket.AF_UNIX) as killed,
        (folder / "starting.socket.lock").open("w") as starting,
    ):
        live.bind(str(folder / "live.socket"))
        live.listen()
        killed.bind(str(folder / "killed.socket"))
        for name in ("live", "killed"):
            (folder / f"{name}.socket.lock").touch()
        fcntl.flock(starting, fcntl.LOCK_EX)
        assert new_run_socket("8", environ=environ) is not None
        assert sorted(each.name for each in folder.iterdir()) == [
            "live.socket",
            "live.socket.lock",
            "starting.socket.lock",
        ]


def test_where_there_can_be_none_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert new_run_socket("7", environ={"XDG_STATE_HOME": str(tmp_path / ("x" * MAX_PATH))}) is None
    (tmp_path / "modelplex").touch()
    assert new_run_socket("7", environ={"XDG_STATE_HOME": str(tmp_path)}) is None
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert new_run_socket("7", environ={}) is None
    assert run_sockets({}) == []
