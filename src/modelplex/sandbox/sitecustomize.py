"""On the PYTHONPATH inside `modelplex run` only: makes `unix:` URLs work once an HTTP library is
imported. Imports nothing heavy before that.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
LIBRARIES = {"httpx", "httpx2"}


def import_client() -> None:
    """Import modelplex.client from the file beside this one: the program's Python may lack the
    package.
    """
    name = "_modelplex_client"
    if name not in sys.modules:
        _run(name, HERE / "client.py")


def _run(name: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is not None and spec.loader is not None:
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


class ImportHook(importlib.abc.MetaPathFinder):
    """Imports the client after one of the libraries."""

    def __init__(self) -> None:
        self.is_active = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in LIBRARIES or self.is_active:
            return None
        self.is_active = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_active = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            self.is_active = True
            try:
                import_client()
            finally:
                self.is_active = False

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def run_next() -> None:
    """Run the system's or user's sitecustomize that this one shadows."""
    for folder in sys.path:
        file = Path(folder or ".", "sitecustomize.py")
        if file.resolve().parent != HERE and file.is_file():
            _run("_next_sitecustomize", file)
            return


sys.meta_path.insert(0, ImportHook())
run_next()
