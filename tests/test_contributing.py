"""Each recipe of CONTRIBUTING.md is carried out on a copy of the tree.

A fence whose info string names a file is a step; ```` ```python check ```` must fail before the
steps and pass after them; ```` ```sh test ```` runs in the copy after the steps.

    ```toml append PATH    the text goes to the end of the file
    ```python create PATH  the file is made
    ```diff PATH           each hunk stands once in the file and is replaced; "@@" parts two
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
RECIPES = {
    "Add a provider",
    "Add a dialect",
    "Add a parameter",
    "Add a policy rule",
    "Add a sink",
    "Add an MCP revision",
}
FENCE = re.compile(r"^```([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("src", "tests", "docs", "pyproject.toml", "README.md")


class Fence(msgspec.Struct, frozen=True):
    words: list[str]
    text: str


def recipes(page: str) -> dict[str, list[Fence]]:
    """The fences below each heading of the third level that begins with "Add"."""
    found: dict[str, list[Fence]] = {}
    for section in re.split(r"^#{2,3} ", page, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        if title.startswith("Add "):
            found[title] = [Fence(info.split(), body) for info, body in FENCE.findall(text)]
    return found


def change(text: str, diff: str) -> str:
    """The text after the hunks of this diff. Raises ValueError where one does not stand once."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        if text.count(before) != 1:
            raise ValueError(f"stands {text.count(before)} times:\n{before}")
        text = text.replace(before, after)
    return text


def apply(step: Fence, tree: Path) -> None:
    match step.words:
        case ["diff", path]:
            (tree / path).write_text(change((tree / path).read_text(), step.text))
        case [_, "append", path]:
            (tree / path).write_text((tree / path).read_text() + "\n" + step.text)
        case [_, "create", path]:
            assert not (tree / path).exists(), f"{path} is there already"
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(step.text)
        case _:
            raise ValueError(f"no step: {step.words}")


def run(command: list[str], tree: Path) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command, cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=120
    )


@cache
def dead_names(tree: Path) -> set[str]:
    """What vulture says of a tree, without the lines."""
    return set(re.findall(r"unused .*", run([sys.executable, "-m", "vulture"], tree).stdout))


def test_every_recipe_is_on_the_page_and_has_a_check() -> None:
    found = recipes(PAGE.read_text())
    assert set(found) == RECIPES
    for fences in found.values():
        assert [fence.words for fence in fences].count(["python", "check"]) == 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_works(name: str, tmp_path: Path) -> None:
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / part)
    fences = recipes(PAGE.read_text())[name]
    (check,) = [fence.text for fence in fences if fence.words == ["python", "check"]]
    assert run([sys.executable, "-c", check], tmp_path).returncode != 0, "the check passes before the steps"
    for fence in fences:
        if fence.words not in (["python", "check"], ["sh", "test"]):
            apply(fence, tmp_path)
    ran = run([sys.executable, "-c", check], tmp_path)
    assert ran.returncode == 0, ran.stderr
    lint = run([sys.executable, "-m", "ruff", "check", "--no-cache", "src"], tmp_path)
    assert lint.returncode == 0, lint.stdout
    assert dead_names(tmp_path) <= dead_names(ROOT)
    for fence in fences:
        if fence.words == ["sh", "test"]:
            for line in fence.text.splitlines():
                program, *words = shlex.split(line)
                assert program == "pytest"
                ran = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words], tmp_path)
                assert ran.returncode == 0, ran.stdout


def test_a_hunk_that_does_not_stand_once_is_an_error() -> None:
    assert change("a\nb\nc\n", " a\n-b\n+x\n@@\n c\n+d\n") == "a\nx\nc\nd\n"
    for text in ("a\na\n", "b\n"):
        with pytest.raises(ValueError, match="stands"):
            change(text, " a\n+b\n")
