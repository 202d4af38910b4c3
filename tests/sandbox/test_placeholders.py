"""Placeholders of one run, of several, and of a killed one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.placeholders import placeholders


def test_they_exist_for_the_time_of_a_run(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    with placeholders({str(folder): None, str(file): "text"}):
        assert folder.is_dir()
        assert file.read_text() == "text"
    assert list(tmp_path.iterdir()) == []


def test_the_last_of_several_runs_removes_them(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    first, second = placeholders({str(path): None}), placeholders({str(path): None})
    with first:
        second.__enter__()
    assert path.is_dir()
    second.__exit__(None, None, None)
    assert not path.exists()


def test_what_somebody_wrote_to_stays(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    with placeholders({str(folder): None, str(file): ""}):
        (folder / "settings").write_text("x")
        file.write_text("x")
    assert (folder / "settings").exists()
    assert file.read_text() == "x"


def test_what_existed_stays(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    with placeholders({str(folder): None, str(file): ""}):
        pass
    assert folder.is_dir()
    assert file.exists()


def test_those_of_a_killed_run_are_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with placeholders({str(path): None}):
        facts = path.stat()
    path.mkdir()
    os.utime(path, (facts.st_mtime, facts.st_mtime))
    with placeholders({str(path): None}):
        pass
    assert not path.exists()


def test_a_replaced_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with placeholders({str(path): None}):
        path.rmdir()
        path.mkdir()
    assert path.is_dir()


def test_one_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="--no-protect"), placeholders({str(tmp_path / "no" / "x"): None}):
        pass
