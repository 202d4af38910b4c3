"""Adds `unix:` base URLs (client.py) to an HTTP library when a program imports it.

Python runs this at every start: by a `.pth` file of `modelplex client install` and of the package
modelplex-client, and inside `modelplex run`. It is the `__init__.py` of a package modelplex_client
there, beside client.py. It imports sys alone, and nothing else until a program imports one of
LIBRARIES.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

LIBRARIES = ("httpx2", "httpx")
LAZY = "lazy"
"""The `loader_state` of client.py where this module loads it: it then patches no library itself."""


class ImportHook:
    """A finder that adds a step to the import of one of LIBRARIES, and finds nothing else."""

    def __init__(self) -> None:
        self._is_active = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        if name not in LIBRARIES or self._is_active:
            return None
        from importlib.util import find_spec

        self._is_active = True
        try:
            spec = find_spec(name)
        finally:
            self._is_active = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: "ModuleType") -> None:
            execute(module)
            patch(name)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def patch(library: str) -> None:
    """Let client.py add `unix:` to a library that is loaded."""
    import os.path
    from importlib.util import module_from_spec, spec_from_file_location

    name = f"{__name__}.client"
    if name not in sys.modules:
        file = os.path.join(os.path.dirname(__file__), "client.py")  # noqa: PTH118, PTH120 - pathlib costs as much as the rest
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            return
        spec.loader_state = LAZY
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    sys.modules[name].install(library)


def add_hook() -> None:
    """Idempotent, also where this module is loaded under two names."""
    if not any(type(each).__name__ == ImportHook.__name__ for each in sys.meta_path):
        sys.meta_path.insert(0, ImportHook())


add_hook()
