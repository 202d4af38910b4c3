import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.store import MAX_SIZE, SignInFiles

from .test_sign_in import made


def test_a_sign_in_is_private_and_read_again(tmp_path: Path) -> None:
    files = SignInFiles(tmp_path / "state")
    assert files.read("far") is None
    files.write(made(), "far", "a/b")
    assert files.read("far", "a/b") == made()
    assert files.agents("far") == ["a/b"]
    path = files.path("far", "a/b")
    path.chmod(0o640)
    with pytest.raises(CredentialError, match="mode must be 0600"):
        files.read("far", "a/b")
    assert files.delete("far", "a/b")
    assert not files.delete("far", "a/b")


async def test_one_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    files, order = SignInFiles(tmp_path), list[str]()

    async def second() -> None:
        async with SignInFiles(tmp_path).locked("far"):
            order.append("second")

    async with files.locked("far"):
        waiting = asyncio.ensure_future(second())
        await asyncio.sleep(0)
        order.append("first")
    await asyncio.wait_for(waiting, 10)
    assert order == ["first", "second"]


def test_files_and_folders_are_private_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = SignInFiles(tmp_path / "state")
        files.write(made(), "far")
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.path("far").stat().st_mode) == 0o600
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700


def test_a_file_that_others_may_read_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    files = SignInFiles(tmp_path)
    files.write(made(), "far")
    files.path("far").chmod(0o644)
    files.write(made(), "far")
    assert files.read("far") == made()


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b',"more":"' + b"x" * MAX_SIZE + b'"}')


def link(path: Path) -> None:
    path.rename(path.with_suffix(".else"))
    path.symlink_to(path.with_suffix(".else"))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def holds(content: bytes) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        path.write_bytes(content)

    return harm


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":9'))


def open_to_others(path: Path) -> None:
    path.chmod(0o604)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (half, "is not a sign-in"),
        (holds(b""), "is not a sign-in"),
        (holds(b'{"more":' + b"[" * 50_000), "is not a sign-in"),
        (holds(b"\xff"), "is not a sign-in"),
        (newer, "is not a sign-in"),
        (grow, "is not a sign-in"),
        (link, "cannot be read"),
        (folder, "cannot be read"),
        (pipe, "is not a sign-in"),
        (open_to_others, "mode must be 0600"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_without_its_content(
    tmp_path: Path, harm: Callable[[Path], object], told: str
) -> None:
    files = SignInFiles(tmp_path)
    files.write(made(), "far")
    harm(files.path("far"))
    with pytest.raises(CredentialError, match=told) as refused:
        files.read("far")
    assert "t0ken" not in str(refused.value)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = SignInFiles(tmp_path)
    files.write(made(), "far")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialError, match="cannot be written: no space left"):
        files.write(made(access_token="another"), "far")
    assert files.read("far") == made()
    assert [each.name for each in files.folder.iterdir()] == ["far.json"]


async def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    files, agent = SignInFiles(tmp_path), "a" * 300
    files.write(made(), "far")
    with pytest.raises(CredentialError, match="cannot be read"):
        files.read("far", agent)
    with pytest.raises(CredentialError, match="cannot be removed"):
        files.delete("far", agent)
    with pytest.raises(CredentialError, match="cannot be opened"):
        async with files.locked("far", agent):
            pass
