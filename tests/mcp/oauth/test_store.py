import asyncio
from pathlib import Path

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.store import SignInFiles

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
