"""Which user root becomes in a container. tests/test_container.py tests the change itself."""

import os
from pathlib import Path

import pytest

from modelplex.server.run_as import RunAsError, User, drop_root, owner_of

IMAGE = User(10001, 10001)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="for root to try: folders of several users")


@root_only
def test_the_owner_of_the_first_folder_that_is_not_roots_is_chosen(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("missing", "roots", "users", "others")]
    for folder, owner in zip(folders[1:], ((0, 0), (1234, 1235), (4321, 4321)), strict=True):
        folder.mkdir()
        os.chown(folder, *owner)
    assert owner_of(folders, default=IMAGE) == User(1234, 1235)
    assert owner_of(folders[:2], default=IMAGE) == IMAGE
    assert owner_of([], default=IMAGE) == IMAGE


def test_a_user_other_than_root_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(_: int) -> None:
        pytest.fail("it changed")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "setuid", change)
    drop_root("10001:10001")


@pytest.mark.parametrize("written", ["modelplex", "10001", "1:2:3", ":"])
def test_an_invalid_user_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("modelplex.server.run_as._is_host_root", lambda: True)
    with pytest.raises(RunAsError, match="is to be two numbers, uid:gid"):
        drop_root(written)


def test_without_permission_to_change_the_error_says_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("modelplex.server.run_as._is_host_root", lambda: True)
    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(RunAsError, match=r"cannot become the user 10001 .* docker run --user 10001:10001"):
        drop_root("10001:10001")
