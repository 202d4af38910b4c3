"""The texts of approved definitions, by hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.mcp import definition_texts
from modelplex.mcp.definition_texts import FOLDER, keep_texts, read_texts

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_a_text_is_found_again_by_its_hash(tmp_path: Path) -> None:
    keep_texts(tmp_path, {ONE: "first \N{SNOWMAN}", TWO: "\ud800"})
    keep_texts(tmp_path, {ONE: "another"})
    assert read_texts(tmp_path, [ONE, TWO, "sha256:" + "3" * 64])[ONE] == "first \N{SNOWMAN}"
    assert {file.name for file in (tmp_path / FOLDER).iterdir()} == {"1" * 64, "2" * 64}


@pytest.mark.parametrize("hashed", ["sha256:../../etc/passwd", "1" * 64, "", "sha256:" + "1" * 63])
def test_nothing_else_is_a_hash(tmp_path: Path, hashed: str) -> None:
    keep_texts(tmp_path, {hashed: "x"})
    assert list((tmp_path / FOLDER).iterdir()) == []
    assert read_texts(tmp_path, [hashed]) == {}


def test_the_folder_and_each_text_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition_texts, "MOST", 1)
    monkeypatch.setattr(definition_texts, "LARGEST", 10)
    keep_texts(tmp_path, {ONE: "x" * 11})
    assert read_texts(tmp_path, [ONE]) == {}
    keep_texts(tmp_path, {ONE: "x" * 10, TWO: "y"})
    assert read_texts(tmp_path, [ONE, TWO]) == {ONE: "x" * 10}
