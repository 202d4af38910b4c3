"""On the PYTHONPATH inside `modelplex run` only: makes `unix:` URLs work once an HTTP library is
imported. Imports nothing heavy before that.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run_next() -> None:
    """Run the system's or user's sitecustomize that this one shadows."""
    for folder in sys.path:
        file = Path(folder or ".", "sitecustomize.py")
        if file.resolve().parent != HERE and file.is_file():
            name = "_next_sitecustomize"
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is not None and spec.loader is not None:
                sys.modules[name] = module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            return


importlib.import_module("modelplex_client")
run_next()
