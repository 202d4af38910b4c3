"""The hook that Python runs at every start: cheap, and `unix:` works once a library is imported."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import modelplex

CODE = Path(modelplex.__file__).parent
WAIT_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The package modelplex_client, as clients/python has it."""
    package = tmp_path / "modelplex_client"
    package.mkdir()
    shutil.copy(CODE / "client_hook.py", package / "__init__.py")
    shutil.copy(CODE / "client.py", package)
    return tmp_path


def python(code: str, folder: Path, *flags: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    command = [sys.executable, "-W", "error", *flags, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_hook_imports_nothing(folder: Path) -> None:
    code = "before = set(sys.modules); import modelplex_client; print(set(sys.modules) - before)"
    assert python(code, folder, "-I", "-S") == "{'modelplex_client'}"


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_library_is_patched_when_it_is_imported_and_the_other_is_not_loaded(
    library: str, folder: Path
) -> None:
    other = {"httpx": "httpx2", "httpx2": "httpx"}[library]
    code = (
        f"import modelplex_client, {library} as h\n"
        "try: h.Client(base_url='unix:/no/such.sock').get('/x')\n"
        "except h.ConnectError as error: print(error)\n"
        f"print({other!r} in sys.modules)"
    )
    first, second = python(code, folder).splitlines()
    assert "/no/such.sock/x: no part of this path is a socket" in first
    assert second == "False"


def test_both_libraries_are_patched(folder: Path) -> None:
    code = (
        "import modelplex_client, httpx, httpx2\n"
        "for h in (httpx, httpx2):\n"
        "  try: h.Client(base_url='unix:/no/such.sock').get('/x')\n"
        "  except h.ConnectError as error: print('patched')"
    )
    assert python(code, folder) == "patched\npatched"


def test_a_missing_library_is_missing(folder: Path) -> None:
    code = "import modelplex_client\ntry: import httpx\nexcept ModuleNotFoundError as error: print(error)"
    assert python(code, folder, "-I", "-S") == "No module named 'httpx'"


def test_loaded_twice_it_hooks_once(folder: Path) -> None:
    code = (
        "import modelplex_client, importlib; importlib.reload(modelplex_client)\n"
        "print(sum(type(each).__name__ == 'ImportHook' for each in sys.meta_path))"
    )
    assert python(code, folder) == "1"


@pytest.mark.parametrize("name", ["client.py", "client_hook.py"])
def test_the_files_have_the_syntax_of_the_oldest_python(name: str) -> None:
    ast.parse((CODE / name).read_text(), feature_version=(3, 9))
