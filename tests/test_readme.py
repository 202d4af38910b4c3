"""What the README and the other documents show is run.

Each document has a gateway process of its own, whose config is the `toml` block that opens with `#
config.toml` (the README's, where there is none), and its blocks run in that process's folder, one
after the other:

    toml     is a config as it stands: the loader accepts it
    bash     run by bash, with `modelplex` on the PATH; what may not run as it stands is in
             readme_commands.py. Docker has no daemon here: its options are checked
    python   run as a program
    js       run by node, with the packages of tests/node; by the command of its first line, where
             that is a comment that begins with node or NODE_OPTIONS
    json     is JSON
    text     straight after one that ran: what it prints, where `...` stands for anything; anywhere
             else nothing is asked of it

The port 11435 becomes the one that the system chose. A command of curl fails where the status says
so.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from modelplex.config import load
from tests.peers import node, node_modules

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG = "# config.toml\n"
WAIT_S = 50.0
ENVIRONMENT = {
    "CLIENT_SECRET": "cs-of-the-test",
    "CRM_SECRET": "of-the-test",
    "LIMITS_PASSWORD": "of-the-test",
    "RECORD_PASSWORD": "of-the-test",
    "OPENAI_API_KEY": "sk-first-of-the-test",
    "OPENAI_API_KEY_2": "sk-second-of-the-test",
    "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
    "MODELPLEX_INTERNAL_TOKEN": "token-of-the-test",
    "READER_TOKEN": "token-of-reader",
    "SEARCH_TOKEN": "token-of-search",
}
STANDS_IN = ("modelplex", "make", "docker")
STARTED_BY = re.compile(r"// ((?:node|NODE_OPTIONS=).* (\w+\.mjs))\n")
"""A script's own first line says how it is started, and what it is called."""
TESTED_APART = {"docs/how-to/many-machines.md"}
"""With Redis, PostgreSQL and three gateways: test_many_machines.py."""
DOCUMENTS = [
    str(file.relative_to(ROOT))
    for file in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if BLOCK.search(file.read_text()) and str(file.relative_to(ROOT)) not in TESTED_APART
]

pytestmark = pytest.mark.docs


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    printed: str | None
    """The `text` block straight after it."""
    line: int


PRESENT = {program for program in ("bash", "curl") if shutil.which(program)}


def needed(block: Block) -> set[str]:
    """The programs that the block is run with and that a machine may lack."""
    started = block.language == "js" and STARTED_BY.match(block.code)
    if block.language != "bash" and not started:
        return set()
    return {"bash", "curl"} if re.search(r"(?<![\w/.-])curl\b", block.code) else {"bash"}


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    found = list(BLOCK.finditer(text))
    answers = {
        before.end(): after[2]
        for before, after in pairwise(found)
        if after[1] == "text" and not text[before.end() : after.start()].strip()
    }
    return [
        Block(one[1], one[2], answers.get(one.end()), text.count("\n", 0, one.start()) + 1) for one in found
    ]


def served_config(document: str) -> str:
    """What is served while a document's blocks run."""
    own = next((one.code for one in blocks(document) if one.code.startswith(CONFIG)), None)
    return own if own is not None else served_config("README.md")


@dataclass(frozen=True)
class Served:
    """A gateway process in a folder of its own, where the documents' blocks run."""

    folder: Path
    port: int
    environ: dict[str, str]

    def run(self, command: list[str], code: str, *, ending: str) -> str:
        """What the code prints. Fails where its exit status is not 0."""
        script = self.folder / f"block.{ending}"
        script.write_text(code.replace("11435", str(self.port)))
        done = subprocess.run(
            [*command, str(script)],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        return done.stdout.replace(str(self.port), "11435").replace("\r", "")


@pytest.fixture(scope="module", params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def served(document: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("d")
    (folder / "config.toml").write_text(served_config(document))
    (folder / ".curlrc").write_text("fail-with-body\nmax-time = 40\n")
    (folder / "node_modules").symlink_to(node_modules())
    (folder / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "agent.py", folder / "examples")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
        **ENVIRONMENT,
        "OLLAMA_HOST": "http://127.0.0.1:1",
        "XDG_STATE_HOME": str(folder / "state"),
        "CURL_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "REAL_PATH": os.environ["PATH"],
        "PATH": f"{_commands(folder)}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "modelplex", "--http", "127.0.0.1:0", "--socket", "./modelplex.socket"]
    log = folder / "modelplex.log"  # where a document sends it that looks at it
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, cwd=folder, stderr=errors, env=environ) as gateway,
    ):
        try:
            port = _port(log, gateway)
            yield Served(folder, port, {**environ, "MODELPLEX_PID": str(gateway.pid)})
        finally:
            gateway.terminate()
            assert gateway.wait(WAIT_S) == 0


def _commands(folder: Path) -> Path:
    """A folder for the PATH, with the commands that stand in for others."""
    there = folder / "bin"
    there.mkdir()
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(there)
    for name in STANDS_IN:
        (there / name).write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/readme_commands.py" {name} "$@"\n'
        )
        (there / name).chmod(0o755)
    for name, program in (("python", sys.executable), ("node", node())):
        (there / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (there / name).chmod(0o755)
    return there


def _port(log: Path, gateway: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and gateway.poll() is None:
        for line in log.read_text().splitlines():
            if '"started"' in line:
                (address,) = [one for one in json.loads(line)["listeners"] if one.startswith("http")]
                return int(address.rpartition(":")[2])
        time.sleep(0.02)
    pytest.fail(f"the gateway did not start:\n{log.read_text()}")


@pytest.mark.timeout(180)  # a dozen programs start, one after the other
def test_every_block_of_the_document_does_what_it_shows(document: str, served: Served) -> None:
    runners = {
        "bash": (["bash", "-euo", "pipefail"], "sh"),
        "python": ([sys.executable, "-W", "error"], "py"),
        "js": ([str(node())], "mjs"),
    }
    missing: set[str] = set()
    for block in blocks(document):
        where = f"{document}:{block.line}"
        if absent := needed(block) - PRESENT:
            missing |= absent
        elif block.language == "js" and (started := STARTED_BY.match(block.code)):
            (served.folder / started[2]).write_text(block.code)
            served.run(["bash", "-euo", "pipefail"], started[1], ending="sh")
        elif block.language in runners:
            command, ending = runners[block.language]
            printed = served.run(command, block.code, ending=ending)
            if block.printed is not None:
                assert _matches(block.printed, printed), (
                    f"{where} says\n{block.printed}\nand prints\n{printed}"
                )
        elif block.language == "toml":
            shown = served.folder / "shown.toml"
            shown.write_text(block.code)
            assert load(str(shown), environ=ENVIRONMENT).providers, where
        elif block.language == "json":
            json.loads(block.code)
        else:
            assert block.language == "text", f"{where} is in no language that is tested: {block.language!r}"
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}; the blocks that need none of it were run")


def _matches(said: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in said.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def test_the_tests_read_every_block() -> None:
    for name in DOCUMENTS:
        assert len(blocks(name)) == (ROOT / name).read_text().count("\n```") / 2, name
    languages = {one.language for one in blocks("README.md")}
    assert {"bash", "python", "toml", "text"} <= languages


def test_what_a_block_prints_is_compared_to_the_letter_but_for_dots() -> None:
    assert _matches("a: 1\nb: ...\n", "a: 1\nb: 23\nc\n")
    assert not _matches("a: 1\nb: ...\n", "a: 2\nb: 23\n")
    assert not _matches("a", "ab")


@pytest.mark.parametrize(
    "wrong",
    [
        "make nothing",
        'make run ARGS="--port 1"',
        "modelplex --port 1",
        "modelplex --config absent.toml",
        "docker run --rm modelplex",
        'docker run -p 11435:11435 -v "$PWD/config.toml:/elsewhere.toml" modelplex',
        'docker run -v "$PWD/config.toml:/config.toml" modelplex --http ":8080"',
        'docker run -p 8080:8080 -v "$PWD/config.toml:/config.toml" modelplex --http "127.0.0.1:8080"',
        'docker run -v "$PWD/config.toml:/config.toml" modelplex --socket /socket/m.socket',
        'docker run -v "$PWD/config.toml:/config.toml" --network host modelplex --port ":8080"',
        "curl -s http://127.0.0.1:11435/nothing",
    ],
)
@pytest.mark.parametrize("document", ["README.md"], indirect=True)
def test_a_command_that_would_not_work_fails(served: Served, wrong: str) -> None:
    if absent := needed(Block("bash", wrong, None, 0)) - PRESENT:
        pytest.skip(f"not installed: {', '.join(sorted(absent))}")
    with pytest.raises(AssertionError):
        served.run(["bash", "-e"], wrong, ending="sh")


def test_what_a_block_needs_is_read_from_it() -> None:
    assert needed(Block("bash", "x=$(curl -s http://x/)", None, 1)) == {"bash", "curl"}
    assert needed(Block("bash", "echo libcurl curling", None, 1)) == {"bash"}
    assert needed(Block("js", "// node a.mjs\n", None, 1)) == {"bash"}
    assert needed(Block("js", "// a comment\n", None, 1)) == set()
    assert needed(Block("text", "curl\n", None, 1)) == set()
