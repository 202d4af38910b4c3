"""Processes that are confined as a gateway is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelplex.confinement import system_calls

START = """\
import asyncio, errno, json, os, signal, socket, sys, threading, time
from modelplex.config import load
from modelplex.server.confined import confine_process
path = sys.argv[1]
config = load(path, environ=os.environ)
def refused(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def tell(value):
    print(json.dumps(value), flush=True)
"""
CONFINE = """\
confinement = confine_process(config, config_path=path, adapt=lambda config: config)
launcher = confinement.launcher
"""
SEAL = "confinement.seal()\n"

Confined = Callable[..., list[Any]]


@pytest.fixture
def confined(tmp_path: Path) -> Confined:
    """Runs Python code in a process that is confined for a config, and returns what it tells."""
    if system_calls.landlock_version() < 6:
        pytest.skip("this kernel has no Landlock with rules for signals (Linux 6.12)")
    folder = tmp_path / "gateway"
    folder.mkdir()
    config = folder / "modelplex.toml"

    def run(
        code: str,
        *,
        text: str = "",
        later: str | None = None,
        confines: bool = True,
        seals: bool = True,
        status: int = 0,
        home: Path | None = None,
    ) -> list[Any]:
        """`later` is what the config file holds once the gateway has loaded it."""
        config.write_text(
            f'[server]\nhttp = "127.0.0.1:0"\nstate_folder = "{folder / "state"}"\n'
            f'[[providers]]\ntype = "demo"\n{text}'
        )
        change = "" if later is None else f"open(path, 'w').write({later!r})\n"
        whole = START + change + CONFINE * confines + SEAL * seals + code
        done = subprocess.run(
            [sys.executable, "-P", "-c", whole, str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env=os.environ if home is None else {**os.environ, "HOME": str(home)},
        )
        assert done.returncode == status, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run
