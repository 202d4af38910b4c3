"""The state folder: configured, of the XDG variable, or of the home."""

from pathlib import Path

import pytest

from modelplex.config.state_folder import make_state_folder, state_folder


def test_the_configured_folder_comes_first(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": "/state"}
    assert state_folder(str(tmp_path), environ=environ) == tmp_path
    assert state_folder(None, environ=environ) == Path("/state/modelplex")


@pytest.mark.parametrize("environ", [{}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}])
def test_without_a_valid_variable_it_is_in_the_home(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder(None, environ=environ) == tmp_path / ".local" / "state" / "modelplex"


def test_a_new_folder_is_private_and_an_existing_one_keeps_its_mode(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    make_state_folder(made)
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o750)
    make_state_folder(made)
    assert made.stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        make_state_folder(tmp_path / "file")
