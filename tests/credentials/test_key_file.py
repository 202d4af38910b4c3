"""A key in a file, which may be replaced while the gateway runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.credentials.key_file import HOLDS_S, KeyFile, as_key
from modelplex.credentials.source import CredentialError, Refreshed
from tests.credentials.clouds import Clock


async def test_a_key_is_the_files_content_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first\n")
    held = Refreshed(KeyFile(str(file), clock=(clock := Clock())).fetch, clock=clock)
    assert await held.get() == "sk-first"
    file.write_text("  sk-second  ")
    assert await held.get() == "sk-first"
    clock.now += HOLDS_S + 0.1
    assert await held.get() == "sk-second"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n", "is empty"),
        (b"a\nb", "line break"),
        (b"sk-\xc3\xa9", "visible ASCII"),
        (b"k" * 70_000, "more than"),
    ],
)
async def test_a_file_without_a_usable_key_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(CredentialError, match=reason) as caught:
        await KeyFile(str(file)).fetch()
    assert str(file) in str(caught.value)


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="No such file"):
        await KeyFile(str(tmp_path / "none")).fetch()


def test_no_fault_shows_the_key() -> None:
    with pytest.raises(CredentialError) as caught:
        as_key(b"sk-secret\nmore", "the place")
    assert "sk-secret" not in str(caught.value)
