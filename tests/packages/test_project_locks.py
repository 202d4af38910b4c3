from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelplex.packages import project_locks
from modelplex.packages.lock_files import BrokenLock
from modelplex.packages.names import Ecosystem
from modelplex.packages.project_locks import lock_names, read_locks

BOTH: frozenset[Ecosystem] = frozenset({"pypi", "npm"})


def test_the_lock_files_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1.0\n")
    (tmp_path / "requirements-dev.txt").write_text("b==1.0\n")
    (tmp_path / "package-lock.json").write_text('{"packages": {"node_modules/c": {"version": "1.0.0"}}}')
    (tmp_path / "notes.txt").write_text("d==1.0\n")
    assert list(read_locks(tmp_path, BOTH)) == [
        "package-lock.json",
        "requirements-dev.txt",
        "requirements.txt",
    ]
    assert lock_names(tmp_path, frozenset({"npm"})) == ["package-lock.json"]
    assert lock_names(tmp_path / "missing", BOTH) == []


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret==1.0\n")
    (tmp_path / "requirements.txt").symlink_to("secret")
    os.mkfifo(tmp_path / "requirements-pipe.txt")
    (tmp_path / "requirements-folder.txt").mkdir()
    assert read_locks(tmp_path, BOTH) == {}


def test_a_broken_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.lock").write_text("{")
    with pytest.raises(BrokenLock, match=r"uv\.lock cannot be read: it is not TOML"):
        read_locks(tmp_path, BOTH)
    monkeypatch.setattr(project_locks, "MAX_LOCK", 0)
    with pytest.raises(BrokenLock, match=r"uv\.lock has more than"):
        read_locks(tmp_path, BOTH)
