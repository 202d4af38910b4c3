"""Inside `modelplex run` alone, on the PYTHONPATH of what runs there: a `unix:` address works as
soon as an HTTP library is imported, and nothing is imported before that.
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


def teach() -> None:
    """`import modelplex.client`, from the file beside this one: the program's own Python may have
    no such package.
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
    """Sees that one of the libraries is being imported, and teaches it once that is done."""

    def __init__(self) -> None:
        self.inside = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in LIBRARIES or self.inside:
            return None
        self.inside = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.inside = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_teach(module: ModuleType) -> None:
            execute(module)
            self.inside = True
            try:
                teach()
            finally:
                self.inside = False

        spec.loader.exec_module = execute_and_teach  # type: ignore[method-assign]
        return spec


def go_on() -> None:
    """A sitecustomize of the system's or the user's that this one stands before."""
    for folder in sys.path:
        file = Path(folder or ".", "sitecustomize.py")
        if file.resolve().parent != HERE and file.is_file():
            _run("_next_sitecustomize", file)
            return


sys.meta_path.insert(0, ImportHook())
go_on()
