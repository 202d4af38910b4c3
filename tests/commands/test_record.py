"""Which record a command reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex import cli
from tests.commands.recorded import record_in


def test_the_record_is_that_of_the_config_or_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert cli.main(["runs"]) == 1
    assert "cannot be opened" in capsys.readouterr().err
    folder = tmp_path / "state" / "modelplex"
    folder.mkdir(parents=True)
    record_in(folder)
    assert cli.main(["runs"]) == 0
    assert "run-1" in capsys.readouterr().out
    (tmp_path / "config.toml").write_text('[record]\nstore = "other.sqlite"\n')
    assert cli.main(["runs"]) == 1
    record_in(tmp_path)
    (tmp_path / "records.sqlite").rename(tmp_path / "other.sqlite")
    capsys.readouterr()
    assert cli.main(["runs"]) == 0
    assert "run-1" in capsys.readouterr().out


def test_a_config_that_is_wrong_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[record]\ncontent = 1\n")
    assert cli.main(["usage", "--config", str(file)]) == 2
    assert "record.content" in capsys.readouterr().err
