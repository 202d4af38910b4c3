"""Findings of a config in the working folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelplex.config import load
from modelplex.config.lint.checks import lint
from modelplex.config.lint.finding import ConfigFinding

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
ENVIRON = {"PATH": os.environ.get("PATH", os.defpath), "GOOD_KEY": KEY}
OPENAI = '[[providers]]\ntype = "openai"\napi_key = "${GOOD_KEY}"\nmodels = ["gpt-4o"]\n'
DEMO = '[[providers]]\ntype = "demo"\n'


class Found(NamedTuple):
    """What tests compare of a finding."""

    severity: str
    code: str
    line: int | None
    key: str


def findings(text: str, *, environ: Mapping[str, str] = ENVIRON, mode: int = 0o600) -> list[ConfigFinding]:
    path = Path("config.toml")
    path.write_text(text)
    path.chmod(mode)
    return lint(load(str(path), environ=environ), environ=environ)


def found(text: str, *, mode: int = 0o600) -> list[Found]:
    each_found = findings(text, mode=mode)
    assert all(each.file == "config.toml" and each.message for each in each_found)
    return [Found(each.severity, each.code, each.line, each.key) for each in each_found]
