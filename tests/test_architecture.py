"""Import rules of docs/why/architecture.md, checked by reading the imports of src.

A package here is a file or folder directly below src/modelplex. A pure package does no I/O: time,
ids and randomness are arguments. A package imports itself and the packages named for it in
MAY_IMPORT, nothing else of ours.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "modelplex"

PURE = frozenset({"core", "dialects", "policy", "routing", "providers"})
"""Packages without I/O."""

MAY_IMPORT: dict[str, frozenset[str]] = {
    package: frozenset(others.split())
    for package, others in {
        "core": "",
        "eager_task": "",
        "policy": "core",
        "dialects": "core policy",
        "routing": "core",
        "providers": "core",
        "http_client": "core eager_task",
        "client": "",
        "confinement": "config core credentials http_client mcp",
        "credentials": "core config http_client providers",
        "client_hook": "",
        "imports": "config providers",
        "config": "core policy providers routing records http_client pipeline",
        "limits": "core config",
        "records": "core config routing providers",
        "replay": "core config records",
        "telemetry": "core config http_client",
        "pipeline": "core credentials dialects policy routing providers http_client config records replay",
        "mcp": "core credentials dialects http_client config records pipeline replay",
        "dashboard": "core records commands",
        "server": "core dialects policy routing providers eager_task http_client config limits records pipeline mcp dashboard replay telemetry confinement credentials",
        "commands": "core dialects config records replay server telemetry",
        "packages": "config http_client records server",
        "sandbox": "commands config confinement core packages records replay server",
        "first_config": "config imports sandbox",
        "command_options": "commands config mcp sandbox",
        "cli": "command_options commands config confinement first_config imports mcp sandbox server",
        "__main__": "cli",
        "__init__": "",
    }.items()
}

# Of packages that wait and start processes, these modules are pure: they decide, and others do.
PURE_MODULES: dict[str, frozenset[str]] = {
    package: frozenset(f"{package}/{module}.py" for module in modules.split())
    for package, modules in {
        "mcp": (
            "constants names schemas shapes result_shapes results search policy catalog usable_catalog uri_templates"
            " header_arguments approvals definition_scan era_translation server_output clients/checks"
            " clients/http_request servers/lifecycle oauth/challenge oauth/metadata oauth/sign_in"
        ),
        "packages": "names allow_list lock_files pnpm_lock simple_index packument sites certificate",
    }.items()
}

# Modules that wait, tell the time, throw dice, touch the machine or speak HTTP.
WORLD = frozenset(
    "asyncio selectors socket ssl select threading multiprocessing concurrent subprocess signal "
    "time random secrets uuid os logging tempfile shutil sqlite3 "
    "http urllib httptools uvicorn uvloop httpx aiohttp requests anyio".split()
)
# Pieces of those that only compute: quoting a URL's part is no I/O.
HARMLESS = frozenset({"urllib.parse", "http.HTTPStatus"})


def _imports(tree: ast.Module, *, package: str) -> Iterator[tuple[int, str]]:
    """Each imported module with its line; `from a import b` gives `a.b`, relative names are made
    whole.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*home, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{name.name}") for name in node.names)


def _fault(package: str, imported: str, *, file: str) -> str | None:
    """Why this file of this package may not import that, or None."""
    first, _, rest = imported.partition(".")
    pure_modules = PURE_MODULES.get(package, frozenset())
    if first != "modelplex":
        harmless = any(imported == ok or imported.startswith(f"{ok}.") for ok in HARMLESS)
        pure = package in PURE or file in pure_modules
        return "a pure module does no I/O" if pure and first in WORLD and not harmless else None
    other, *inside = rest.split(".")
    if other in {"", "__version__"}:
        return None
    if file in pure_modules and other == package:
        modules = {"/".join([other, *inside[:depth]]) + ".py" for depth in (1, 2)}
        return None if modules & pure_modules else "a pure module imports pure modules only"
    if file in pure_modules and other not in PURE:
        return "a pure module imports pure modules only"
    if other == package:
        return None
    allowed = MAY_IMPORT.get(package)
    if allowed is None:
        return "the package is not in MAY_IMPORT"
    return None if other in allowed else f"{package} imports only {', '.join(sorted(allowed)) or 'nothing'}"


def forbidden_imports(src: Path) -> list[str]:
    """One sentence for each import below `src` (the folder modelplex) that the rules forbid."""
    faults: list[str] = []
    for file in sorted(src.rglob("*.py")):
        inside = file.relative_to(src)
        top = inside.parts[0].removesuffix(".py")
        package = ".".join(["modelplex", *inside.parts[:-1]])
        for line, imported in _imports(ast.parse(file.read_text(), filename=str(file)), package=package):
            if fault := _fault(top, imported, file=inside.as_posix()):
                faults.append(f"{inside}:{line}: {top} imports {imported}: {fault}")
    return faults


def test_no_import_of_the_product_is_forbidden() -> None:
    assert SRC.is_dir()
    pure = sorted(file for modules in PURE_MODULES.values() for file in modules)
    assert [file for file in pure if not (SRC / file).is_file()] == []
    assert forbidden_imports(SRC) == []


def test_no_two_public_classes_have_one_name() -> None:
    """One word, one thing."""
    places: dict[str, list[str]] = {}
    for file in sorted(SRC.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(file.relative_to(SRC).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


MAX_CLASS_LINES = 300
MAX_CONSTRUCTOR_ARGUMENTS = 8
"""After self."""

# What is still larger, with its present figure. An entry may shrink and must go when it fits.
CLASSES_TOO_LONG: dict[str, int] = {}
CONSTRUCTORS_TOO_WIDE: dict[str, int] = {}


def class_lines(src: Path) -> dict[str, int]:
    """The lines of each class below `src`, by `file:class`."""
    return {name: (node.end_lineno or node.lineno) - node.lineno + 1 for name, node in _classes(src)}


def constructor_arguments(src: Path) -> dict[str, int]:
    """The arguments after self of each `__init__` below `src`, by `file:class`."""
    return {
        name: len(method.args.posonlyargs + method.args.args + method.args.kwonlyargs) - 1
        for name, node in _classes(src)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
    }


def _classes(src: Path) -> Iterator[tuple[str, ast.ClassDef]]:
    for file in sorted(src.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(), filename=str(file))):
            if isinstance(node, ast.ClassDef):
                yield f"{file.relative_to(src).as_posix()}:{node.name}", node


def size_faults(sizes: dict[str, int], *, limit: int, exceptions: dict[str, int]) -> list[str]:
    """One sentence for each size above the limit or its exception, and for each exception that is
    no longer needed.
    """
    grown = [
        f"{name}: {size}, at most {exceptions.get(name, limit)}"
        for name, size in sizes.items()
        if size > exceptions.get(name, limit)
    ]
    unneeded = [f"{name}: remove the exception" for name in exceptions if sizes.get(name, 0) <= limit]
    return grown + unneeded


def test_no_class_is_longer_than_300_lines() -> None:
    assert size_faults(class_lines(SRC), limit=MAX_CLASS_LINES, exceptions=CLASSES_TOO_LONG) == []


def test_no_constructor_takes_more_than_8_arguments() -> None:
    sizes = constructor_arguments(SRC)
    assert size_faults(sizes, limit=MAX_CONSTRUCTOR_ARGUMENTS, exceptions=CONSTRUCTORS_TOO_WIDE) == []


def test_a_size_above_its_limit_is_named(tmp_path: Path) -> None:
    body = "    def __init__(self, a, b=1, *, c): ...\n"
    (tmp_path / "module.py").write_text(f"class Small: ...\n\n\nclass Large:\n{body}    x = 1\n")
    lines, arguments = class_lines(tmp_path), constructor_arguments(tmp_path)
    assert lines == {"module.py:Small": 1, "module.py:Large": 3}
    assert arguments == {"module.py:Large": 3}
    assert size_faults(lines, limit=2, exceptions={}) == ["module.py:Large: 3, at most 2"]
    assert size_faults(lines, limit=1, exceptions={"module.py:Large": 2}) == ["module.py:Large: 3, at most 2"]
    assert size_faults(lines, limit=2, exceptions={"module.py:Large": 3}) == []
    assert size_faults(lines, limit=3, exceptions={"module.py:Large": 3}) == [
        "module.py:Large: remove the exception"
    ]


WITHOUT_A_TEST: dict[str, str] = {
    **dict.fromkeys(("__init__.py", "__main__.py"), "re-exports and the entry point"),
    "dashboard/request.py": "types",
    "dialects/*/fields.py": "rows; dialects/test_sdk_members.py and tests/policy check all of them",
    "dialects/*/policy.py": "rules; tests/policy checks all of them",
    "dialects/*/dialect.py": "one Dialect value; dialects/test_registry.py and the pairs use all of them",
    "dialects/*/forms.py": "paths and endpoints; server/test_routes.py and dialects/test_endpoints.py read all of them",
    **dict.fromkeys(("dialects/dialect.py", "dialects/form.py"), "types"),
    "dialects/anthropic/blocks.py": "types",
    "dialects/core/broken_responses.py": "sentences of errors",
    "dialects/openai_chat/policy_endpoints.py": "rules; tests/policy checks all of them",
    "dialects/openai_responses/constants.py": "constants",
    **dict.fromkeys(("core/egress.py", "core/events.py", "core/request.py"), "types"),
    "credentials/signed_jwt.py": "credentials/test_google.py, mcp/oauth/test_oidc_provider.py",
    **dict.fromkeys(("mcp/constants.py", "mcp/gateway_parts.py", "mcp/tool_server.py"), "types"),
    "pipeline/response_output.py": "types",
    "policy/verdict.py": "types",
    "providers/types.py": "a constant",
    **dict.fromkeys(("records/admin_act.py", "records/record.py", "records/run_facts.py"), "types"),
    "sandbox/errors.py": "types",
    "limits/shared/problems.py": "types",
}
"""Modules that need no test of their own, with the reason."""


def untested(src: Path, tests: Path) -> list[str]:
    """Each module below `src` without a test of its name at the same place below `tests`."""
    modules = [file.relative_to(src) for file in sorted(src.rglob("*.py"))]
    return [
        module.as_posix()
        for module in modules
        if not (tests / module.with_name(f"test_{module.name.lstrip('_')}")).is_file()
    ]


def test_each_module_has_a_test_of_its_name() -> None:
    lacking = untested(SRC, Path(__file__).parent)
    assert [
        name
        for name in lacking
        if not any(fnmatch(name, known) or Path(name).name == known for known in WITHOUT_A_TEST)
    ] == []
    assert [
        known
        for known in WITHOUT_A_TEST
        if not any(fnmatch(name, known) or Path(name).name == known for name in lacking)
    ] == []


def test_a_module_without_a_test_is_named(tmp_path: Path) -> None:
    src, tests = tmp_path / "src", tmp_path / "tests"
    (src / "core").mkdir(parents=True)
    (tests / "core").mkdir(parents=True)
    for name in ("core/one.py", "core/two.py", "_three.py"):
        (src / name).touch()
    (tests / "core" / "test_one.py").touch()
    (tests / "test_two.py").touch()
    (tests / "test_three.py").touch()
    assert untested(src, tests) == ["core/two.py"]


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("dialects/core/sse.py", "import asyncio", "dialects/core/sse.py:2: dialects imports asyncio:"),
        ("dialects/deep/er.py", "from time import monotonic", "dialects imports time.monotonic:"),
        ("policy/size.py", "import os.path", "policy imports os.path:"),
        ("routing/circuit_breaker.py", "import random as dice", "routing imports random:"),
        ("providers/openai.py", "import urllib.request", "providers imports urllib.request:"),
        ("core/events.py", "def f():\n  import socket", "core/events.py:3: core imports socket:"),
        ("core/errors.py", "import httptools", "core imports httptools:"),
        ("dialects/chat.py", "from modelplex.providers import specs", "imports modelplex.providers.specs:"),
        ("dialects/chat.py", "from ..providers import specs", "imports modelplex.providers.specs:"),
        ("dialects/chat.py", "from modelplex import pipeline", "imports modelplex.pipeline:"),
        ("core/request.py", "from modelplex.config import Config", "core imports modelplex.config.Config:"),
        ("pipeline/gateway.py", "from modelplex.server.app import app", "imports modelplex.server.app.app:"),
        (
            "http_client/pool.py",
            "from ..pipeline.gateway import answer",
            "imports modelplex.pipeline.gateway.answer:",
        ),
        ("records/log.py", "from modelplex import cli", "records imports modelplex.cli:"),
        ("new/module.py", "from modelplex import cli", "the package is not in MAY_IMPORT"),
        ("mcp/names.py", "import asyncio", "mcp/names.py:2: mcp imports asyncio:"),
        ("mcp/servers/lifecycle.py", "from time import monotonic", "mcp imports time.monotonic:"),
        ("mcp/catalog.py", "from modelplex.mcp.gateway import G", "imports modelplex.mcp.gateway.G:"),
        ("mcp/approvals.py", "from .lockfile import read_lock", "imports modelplex.mcp.lockfile.read_lock:"),
        ("mcp/policy.py", "from modelplex.config import Config", "imports modelplex.config.Config:"),
        ("packages/names.py", "import os", "packages/names.py:2: packages imports os:"),
        ("packages/sites.py", "from .mirror import PackageMirror", "imports modelplex.packages.mirror."),
    ],
)
def test_a_forbidden_import_is_named(tmp_path: Path, file: str, line: str, told: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f'"""A module."""\n{line}\n')
    (fault,) = forbidden_imports(tmp_path)
    assert told in fault


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (
            "dialects/chat.py",
            "from modelplex.core.request import C\nfrom . import sse\nfrom ..core.errors import F",
        ),
        ("core/events.py", "from modelplex.core.request import TextPart"),
        ("providers/azure.py", "from urllib.parse import quote"),
        (
            "pipeline/gateway.py",
            "import asyncio\nfrom modelplex.dialects import sse\nfrom modelplex import http_client",
        ),
        ("server/app.py", "from modelplex.pipeline.gateway import answer"),
        ("cli.py", "from modelplex.server import process\nfrom modelplex import __version__"),
        ("__main__.py", "from modelplex.cli import main"),
        ("mcp/catalog.py", "from modelplex.mcp.names import Names\nfrom modelplex.core.caller import Caller"),
        ("mcp/clients/checks.py", "from modelplex.mcp.constants import Json"),
        ("packages/sites.py", "from .names import Ecosystem\nfrom urllib.parse import unquote"),
        ("packages/plan.py", "import os\nfrom modelplex.packages.sites import Site"),
        ("mcp/lockfile.py", "import os\nfrom modelplex.mcp.approvals import Approvals"),
    ],
)
def test_an_allowed_import_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f'"""A module."""\n{line}\n')
    assert forbidden_imports(tmp_path) == []
