"""Folders that a gateway writes to, with programs and a config."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelplex.config import load
from modelplex.confinement.confine import word_of
from modelplex.confinement.started_files import writable

TEXT = """
[[providers]]
type = "bedrock"
region = "us-east-1"
models = ["*"]
[mcp]
enabled = true
[[mcp.servers]]
name = "one"
command = "tool"
args = ["{scripts}/script.py", "{data}"]
cwd = "{work}"
"""


@pytest.mark.parametrize(
    ("folder", "has"),
    [
        ("config", "config/modelplex.toml"),
        ("programs", "programs/tool"),
        ("scripts", "scripts/script.py"),
        ("work", "work"),
        ("aws", "aws/config"),
        ("data", ""),
        ("logs", ""),
    ],
)
def test_a_folder_with_what_is_started_is_named(tmp_path: Path, folder: str, has: str) -> None:
    folders = {
        name: tmp_path / name for name in ("config", "programs", "scripts", "data", "work", "aws", "logs")
    }
    for each in folders.values():
        each.mkdir()
    (tmp_path / "programs" / "tool").touch(0o755)
    (tmp_path / "scripts" / "script.py").touch()
    file = tmp_path / "config" / "modelplex.toml"
    file.write_text(TEXT.format(**folders))
    environ = {"PATH": str(tmp_path / "programs"), "AWS_CONFIG_FILE": str(tmp_path / "aws" / "config")}
    path = tmp_path / folder
    expected = [f"{path}, which has {tmp_path / has}"] if has else []
    assert writable([str(path)], load(str(file), environ=os.environ), environ=environ) == expected


def test_a_gateway_with_its_records_beside_its_config_is_confined_partly(tmp_path: Path) -> None:
    file = tmp_path / "modelplex.toml"
    file.write_text(f'[record]\nstore = "{tmp_path}/records.sqlite"\n[[providers]]\ntype = "demo"\n')
    word = word_of(load(str(file), environ={}))
    assert word.endswith(f"it writes to {tmp_path}, which has {file}, so that it can change what is started")
