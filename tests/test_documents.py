"""Links, citations and prose of the documents."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HOME = "https://github.com/modelplex/modelplex/blob/main/"
"""Where the files of this repository are seen on the web. README.md is also the page on a package
index, where a relative link leads nowhere.
"""
TARGET = re.compile(r"\]\([^)]*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+\s+(.+)$", re.MULTILINE)
NAMED = re.compile(r"<a id=\"([\w-]+)\">")

pytestmark = pytest.mark.docs


def documents(root: Path) -> list[Path]:
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("examples/**/*.md")])


def anchors(document: Path) -> set[str]:
    """The names under which a heading can be linked to, made as the usual renderers make them."""
    text = FENCE.sub("", document.read_text())
    headings = HEADING.findall(text)
    return set(NAMED.findall(text)) | {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def dead_links(root: Path) -> list[str]:
    """One sentence for each link within the project that leads nowhere; links to the web are not
    followed.
    """
    dead: list[str] = []
    for document in documents(root):
        for inline, reference in LINK.findall(FENCE.sub("", document.read_text())):
            written = inline or reference
            at_home = written.startswith(HOME)
            path, _, anchor = written.removeprefix(HOME).partition("#")
            if document == root / "README.md" and not at_home and path and "://" not in path:
                dead.append(f"README.md links to {path}: on a package index only {HOME}{path} leads there")
            if "://" in path or path.startswith("mailto:"):
                continue
            folder = root if at_home else document.parent
            target = folder / path if path else document
            if not target.exists():
                dead.append(f"{document.relative_to(root)} links to {path}, which is not there")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                dead.append(
                    f"{document.relative_to(root)} links to {path}#{anchor}, which is no heading there"
                )
    return dead


def test_every_link_between_documents_leads_somewhere() -> None:
    assert ROOT / "README.md" in documents(ROOT)
    assert dead_links(ROOT) == []


def test_a_dead_link_and_a_dead_anchor_are_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text(
        "# The `config` file\n```\n[not](a-link.md)\n```\n[up](../a.md#first)\n"
    )
    (tmp_path / "a.md").write_text(
        "# First\n[b](docs/b.md#the-config-file) [web](https://example.org/x)\n[gone](docs/c.md) [off](docs/b.md#off)\n"
    )
    assert dead_links(tmp_path) == [
        "a.md links to docs/c.md, which is not there",
        "a.md links to docs/b.md#off, which is no heading there",
    ]


def test_the_readme_links_absolutely_and_such_a_link_is_followed_into_the_tree(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    (tmp_path / "README.md").write_text(
        f"# First\n[a](CHANGELOG.md) [b]({HOME}CHANGELOG.md#changelog) [c]({HOME}gone.md) [d](#first)\n"
    )
    assert dead_links(tmp_path) == [
        f"README.md links to CHANGELOG.md: on a package index only {HOME}CHANGELOG.md leads there",
        "README.md links to gone.md, which is not there",
    ]


# --- files that a document names

NAMED_FILE = re.compile(r"(?<![\w/.-])((?:src|tests|benchmarks|examples|docs|\.ci)/[\w./-]*\w)")


def missing_files(root: Path) -> list[str]:
    """One sentence for each file or folder of the project that the prose of a document names and
    that does not exist.
    """
    missing: list[str] = []
    for document in documents(root):
        text = TARGET.sub("]", FENCE.sub("", document.read_text()))
        missing.extend(
            f"{document.relative_to(root)} names {name}, which does not exist"
            for name in sorted(set(NAMED_FILE.findall(text)))
            if not (root / name).exists()
        )
    return missing


def test_every_file_that_a_document_names_exists() -> None:
    assert missing_files(ROOT) == []


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").touch()
    (tmp_path / "a.md").write_text("`tests/a.py`, docs/b.md, [c](docs/c.md)\n```text\nsrc/d.py\n```\n")
    assert missing_files(tmp_path) == ["a.md names tests/a.py, which does not exist"]


# --- prose

MAX_COLUMNS = 120
MAX_WORDS = 120
"""Of a paragraph or an item of a list."""
NOT_PROSE = re.compile(r"\s*(?:\||#|<|\[[^\]]+\]:)")
"""Rows of tables, headings, comments and definitions of links."""
ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s")


def long_prose(root: Path) -> list[str]:
    """One sentence for each line above MAX_COLUMNS (the address of a link does not count), and for
    each paragraph above MAX_WORDS.
    """
    long: list[str] = []
    for document in documents(root):
        inside = document.relative_to(root)
        text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), document.read_text())
        began, words = 1, 0
        for number, line in enumerate([*text.split("\n"), ""], 1):
            columns = len(TARGET.sub("]", line))
            if columns > MAX_COLUMNS and not NOT_PROSE.match(line):
                long.append(f"{inside}:{number} has {columns} columns, at most {MAX_COLUMNS}")
            if not line.strip() or NOT_PROSE.match(line) or ITEM.match(line):
                if words > MAX_WORDS:
                    long.append(f"{inside}:{began} is a paragraph of {words} words, at most {MAX_WORDS}")
                began, words = number, 0
            if not NOT_PROSE.match(line):
                words += len(line.split())
    return long


def test_no_line_and_no_paragraph_is_too_long() -> None:
    assert long_prose(ROOT) == []


def test_a_line_and_a_paragraph_that_are_too_long_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        f"# First\n\n{'x' * 121}\n[a](https://example.org/{'x' * 120})\n\n| {'x' * 121} |\n\n"
        f"```text\n{'x' * 121}\n```\n\n- {'word ' * 20}\n" + f"  {'word ' * 20}\n" * 5 + f"- {'word ' * 20}\n"
    )
    assert long_prose(tmp_path) == [
        "a.md:3 has 121 columns, at most 120",
        "a.md:12 is a paragraph of 121 words, at most 120",
    ]


# --- citations in code

CITED = re.compile(r"(?<![\w/.-])([\w./-]*\w\.md)(?:#([\w-]+)(?:\s+(?:#\s+)?and\s+(?:#\s+)?#([\w-]+))?)?")
BY_NUMBER = re.compile(r"[\w-]+\.md(?:\s+(?:#\s+)?section)?\s+(?:#\s+)?[A-Z]?\d[\d.]*")
"""A section by its number, which no heading here has."""
WEB = re.compile(r"https?://\S+")

OF_AGENTS = frozenset("AGENTS.md CLAUDE.md GEMINI.md QWEN.md".split())
"""Instructions of agents, which are the users' own files."""


def dead_citations(root: Path, files: list[Path]) -> list[str]:
    """One sentence for each document that a file of code names and that is not in the repository. A
    test may name a document that it reads without its folder.
    """
    there = [f"/{document.relative_to(root)}" for document in documents(root)]
    dead: list[str] = []
    for file in files:
        inside = file.relative_to(root)
        text = WEB.sub("", file.read_text())
        dead.extend(
            f"{inside} cites {' '.join(cited.split())} by a number" for cited in BY_NUMBER.findall(text)
        )
        for path, *names in CITED.findall(text):
            if path.rpartition("/")[2] in OF_AGENTS:
                continue
            target = root / path
            known = any(document.endswith("/" + path.lstrip("./")) for document in there)
            if not target.is_file() and not (inside.parts[0] == "tests" and known):
                dead.append(f"{inside} cites {path}, which is not in the repository")
            else:
                dead.extend(
                    f"{inside} cites {path}#{name}, which is no heading there"
                    for name in names
                    if name and target.is_file() and name not in anchors(target)
                )
    return dead


def test_every_document_that_code_cites_is_in_the_repository() -> None:
    files = [
        file
        for folder in ("src", "tests", "benchmarks", "examples")
        for file in sorted((ROOT / folder).rglob("*"))
        if file.suffix in {".py", ".toml", ".mjs", ".sh"} and file != Path(__file__).resolve()
    ]
    assert len(files) > 300
    assert dead_citations(ROOT, files) == []


def test_a_citation_of_no_file_and_of_no_heading_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text('# First\n\n| <a id="r1"></a>R1 | x |\n')
    (tmp_path / "tests").mkdir()
    test = tmp_path / "tests" / "b.py"
    test.write_text("# a.md, c.md\n")
    source = tmp_path / "a.py"
    source.write_text(
        "# gone.md 2.3, docs/a.md#r1, docs/a.md#first and #second, https://example.org/web.md#x\n"
        "# docs/a.md#first\n# and #third, docs/a.md.\n"
    )
    assert dead_citations(tmp_path, [source, test]) == [
        "a.py cites gone.md 2.3 by a number",
        "a.py cites gone.md, which is not in the repository",
        "a.py cites docs/a.md#second, which is no heading there",
        "a.py cites docs/a.md#third, which is no heading there",
        "tests/b.py cites c.md, which is not in the repository",
    ]


# --- docs/why/architecture.md

ARCHITECTURE = ROOT / "docs" / "why" / "architecture.md"
SRC = ROOT / "src" / "modelplex"
FILE = re.compile(r"(?<![\w/.-])([a-z_]\w*\.(?:py|toml))\b")


def unnamed_files(src: Path, text: str) -> list[str]:
    """The files below `src` that the picture leaves out."""
    named = set(FILE.findall(text))
    missing: list[str] = []
    for file in sorted([*src.rglob("*.py"), *src.rglob("*.toml")]):
        inside = file.relative_to(src)
        if file.name != "__init__.py" and file.name not in named:
            missing.append(str(inside))
        if len(inside.parts) > 1 and f"\n  {inside.parts[0]}/" not in text:
            missing.append(f"{inside.parts[0]}/")
    return list(dict.fromkeys(missing))


def test_the_layout_names_each_file_and_no_other() -> None:
    text = ARCHITECTURE.read_text()
    assert unnamed_files(SRC, text) == []
    there = {file.name for file in SRC.rglob("*")}
    assert set(FILE.findall(text)) - there == set()


def test_a_file_that_the_picture_leaves_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "wire").mkdir()
    for name in ("gateway.py", "__init__.py", "wire/new.py"):
        (tmp_path / name).touch()
    assert unnamed_files(tmp_path, "\n  wire/  new.py\n") == ["gateway.py"]
    assert unnamed_files(tmp_path, "\n  gateway.py xnew.py\n") == ["wire/new.py", "wire/"]


# --- docs/decisions


def unlisted_decisions(folder: Path) -> list[str]:
    listed = set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    return sorted(file.name for file in folder.glob("0*.md") if file.name not in listed)


def test_the_index_lists_each_decision() -> None:
    assert unlisted_decisions(ROOT / "docs" / "decisions") == []


def test_a_decision_that_the_index_leaves_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("- [1. A](0001-a.md)\n")
    (tmp_path / "0001-a.md").touch()
    (tmp_path / "0002-b.md").touch()
    assert unlisted_decisions(tmp_path) == ["0002-b.md"]


# --- versions of agents


def pinned_agents() -> dict[str, str]:
    """The version of each package that `make agents` installs."""
    folder = ROOT / "tests" / "agents"
    node: dict[str, dict[str, str]] = json.loads((folder / "package.json").read_text())
    lines = [line for file in folder.glob("*.in") for line in file.read_text().splitlines()]
    python = (line.split("==") for line in lines)
    return {
        **node["dependencies"],
        **node["optionalDependencies"],
        **{name.partition("[")[0]: release for name, release in python},
    }


PRESETS = {
    "aider": "aider-chat",
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "opencode": "opencode-linux-x64",
    "pi": "@earendil-works/pi-coding-agent",
    "qwen": "@qwen-code/qwen-code",
}


def test_presets_and_their_page_name_the_tested_releases() -> None:
    pinned = pinned_agents()
    page = (ROOT / "docs" / "how-to" / "agents.md").read_text()
    folder = ROOT / "src" / "modelplex" / "sandbox" / "presets"
    tested = {file.stem: tomllib.loads(file.read_text())["tested"] for file in folder.glob("*.toml")}
    assert {name: release for name, release in tested.items() if release} == {
        name: pinned[package] for name, package in PRESETS.items()
    }
    for name in PRESETS:
        assert f"| `{name}` | {tested[name]} |" in page
    named = re.findall(r"^\| \[[^\]]*\]\(#[^)]*\) \| ([\d.]+) \|", page, re.MULTILINE)
    assert len(named) > 16
    assert set(named) <= set(pinned.values())
