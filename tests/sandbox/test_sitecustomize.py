"""`unix:` URLs inside the sandbox, without an import by the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import modelplex

CODE = Path(modelplex.__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What plan.py puts on the PYTHONPATH."""
    shutil.copy(CODE / "sandbox" / "sitecustomize.py", tmp_path)
    (tmp_path / "modelplex_client").mkdir()
    shutil.copy(CODE / "client_hook.py", tmp_path / "modelplex_client" / "__init__.py")
    shutil.copy(CODE / "client.py", tmp_path / "modelplex_client")
    return tmp_path


def python(code: str, *folders: Path) -> str:
    environ = {"PYTHONPATH": ":".join(map(str, folders)), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False, env=environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_imported_before_an_http_library_is(folder: Path) -> None:
    code = "import sys; print('modelplex_client.client' in sys.modules, 'httpx' in sys.modules)"
    assert python(code, folder) == "False False"
    assert python("import httpx; " + code, folder) == "True True"


def test_a_client_with_a_unix_url_connects_to_the_socket(folder: Path) -> None:
    code = (
        "import httpx\n"
        "try: httpx.Client(base_url='unix:/no/such.sock').get('/x')\n"
        "except httpx.ConnectError as error: print(error)"
    )
    assert "/no/such.sock/x: no part of this path is a socket" in python(code, folder)


def test_the_next_sitecustomize_runs_too(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import builtins; builtins.marker = 'ran'")
    assert python("print(marker)", folder, other) == "ran"


def test_a_missing_library_is_reported_by_its_import(folder: Path) -> None:
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "try: import httpx\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    assert python(code, folder) == "No module named 'httpx'"
