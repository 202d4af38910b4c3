"""The package agrees with its own description, and a release is reproducible."""

import ast
import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelplex

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "modelplex"


def test_the_version_is_the_one_that_is_released() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert modelplex.__version__ == described["version"]


def test_the_client_alone_has_the_same_version_and_no_dependency() -> None:
    described = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]
    assert (described["version"], described["dependencies"]) == (modelplex.__version__, [])


def test_the_changelog_has_a_section_for_the_version_below_the_unreleased_one() -> None:
    sections = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert sections[0] == "## [Unreleased]"
    assert sections[1].startswith(f"## [{modelplex.__version__}] - 20")


def test_the_file_for_node_is_in_the_package() -> None:
    assert (Path(modelplex.__path__[0]) / "client.mjs").is_file()


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top level of a module binds, imports apart."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
        case _:
            pass


def unused_names(sources: dict[str, str]) -> list[str]:
    """`module: name` for each top-level name that neither its module nor another one uses.

    vulture finds a name that nothing uses; this also finds private names, and constants with a
    namesake that is used elsewhere.
    """
    trees = {module: ast.parse(source) for module, source in sources.items()}
    used_by_others: set[tuple[str, str]] = set()
    attributes: set[str] = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                used_by_others |= {(node.module, each.name) for each in node.names}
            elif isinstance(node, ast.Attribute):
                attributes.add(node.attr)
    unused: list[str] = []
    for module, tree in trees.items():
        texts = " ".join(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and type(node.value) is str
        )
        loaded = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        exported = {
            each
            for node in tree.body
            if isinstance(node, ast.Assign) and any(ast.unparse(t) == "__all__" for t in node.targets)
            for each in ast.literal_eval(node.value)
        }
        for name in [name for node in tree.body for name in _bound(node)]:
            known = (
                name in loaded or name in exported or name in attributes or (module, name) in used_by_others
            )
            if not (known or name.startswith("__") or f'"{name}"' in texts):
                unused.append(f"{module}: {name}")
    return unused


USED_OUTSIDE = {
    "modelplex.records.sink: QueuedSink",  # wraps a sink that may block; no sink of ours does
    "modelplex.records.price_list: PricedModel",  # the script that writes prices.json
    "modelplex.sandbox.check: main",  # imported by name in the sandbox
}


def test_no_module_has_a_name_that_nothing_uses() -> None:
    sources = {
        ".".join(("modelplex", *file.relative_to(SRC).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): file.read_text()
        for file in sorted(SRC.rglob("*.py"))
    }
    assert sorted(set(unused_names(sources)) ^ USED_OUTSIDE) == []


def test_an_unused_name_is_found() -> None:
    sources = {
        "a": "USED = 1\nDEAD = 2\n_DEAD = USED\nTWICE = 3\ndef f(): ...\nclass Unused: ...\n",
        "b": "from a import f\nTWICE = 4\nprint(TWICE)\nf()",
    }
    assert unused_names(sources) == ["a: DEAD", "a: _DEAD", "a: TWICE", "a: Unused"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_builds_of_one_commit_are_equal(tmp_path: Path) -> None:
    """Folder, umask, time zone and file times do not matter."""
    environ = {"UV": str(ROOT / ".cache/uv/bin/uv"), "PYTHON": str(ROOT / ".cache/uv/bin/python")}
    environ["UV_CACHE_DIR"] = os.environ.get("UV_CACHE_DIR", str(ROOT / ".cache/packages"))
    built: list[dict[str, bytes]] = []
    for name, umask, zone in (("one", 0o022, "UTC"), ("another", 0o077, "Asia/Tokyo")):
        clone = tmp_path / name / "clone"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True, umask=umask)
        ran = subprocess.run(
            [clone / ".ci/release", tmp_path / name / "dist"],
            env={**os.environ, **environ, "TZ": zone},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        built.append({file.name: file.read_bytes() for file in (tmp_path / name / "dist").iterdir()})
    assert built[0] == built[1]
    version = modelplex.__version__
    assert sorted(built[0]) == [
        "SHA256SUMS",
        f"modelplex-{version}-py3-none-any.whl",
        f"modelplex-{version}.cdx.json",
        f"modelplex-{version}.tar.gz",
        f"modelplex_client-{version}-py3-none-any.whl",
        f"modelplex_client-{version}.tar.gz",
    ]

    bom = json.loads(built[0][f"modelplex-{version}.cdx.json"])
    assert (bom["bomFormat"], bom["metadata"]["component"]["version"]) == ("CycloneDX", version)
    components = {each["name"]: each for each in bom["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {line.partition(">=")[0] for line in project["dependencies"]} <= set(components)
    assert "pytest" not in components
    assert all(each["externalReferences"][0]["hashes"] for each in components.values())


def test_a_release_of_changes_that_are_not_committed_is_refused(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
    (clone / "src/modelplex/extra.py").write_text("")
    ran = subprocess.run(
        [clone / ".ci/release", tmp_path / "dist"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "not committed" in ran.stderr
    assert not (tmp_path / "dist").exists()
