"""The token of the page: kept for its user alone, never read from a file that others may read."""

from __future__ import annotations

from pathlib import Path

from modelplex.server.page_token import TOKEN_FILE, load_token


def test_a_token_is_kept_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    token = load_token(folder)
    assert len(token) >= 32
    assert load_token(folder) == token
    assert (folder / TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in folder.iterdir()] == [TOKEN_FILE]


def test_a_removed_file_gives_another_token(tmp_path: Path) -> None:
    token = load_token(tmp_path)
    (tmp_path / TOKEN_FILE).unlink()
    assert load_token(tmp_path) != token


def test_a_file_that_others_may_read_or_that_is_none_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / TOKEN_FILE
    token = load_token(tmp_path)
    file.chmod(0o644)
    assert load_token(tmp_path) != token
    file.write_text("short\n")
    file.chmod(0o600)
    assert load_token(tmp_path) != "short"
    file.unlink()
    file.symlink_to("/dev/zero")
    assert len(load_token(tmp_path)) >= 32


def test_without_a_folder_the_token_lives_as_long_as_the_process(tmp_path: Path) -> None:
    assert load_token(None) != load_token(None)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(load_token(blocked / "state")) >= 32
