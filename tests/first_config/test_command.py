"""`modelplex init`, as a process: in a terminal and without one."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelplex.config import load
from tests.agents.terminals import terminal
from tests.processes import NOWHERE

INIT = [sys.executable, "-m", "modelplex", "init"]
KEY = "sk-ant-very-secret"


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {**NOWHERE, "HOME": str(folder / "home"), "PATH": str(folder / "bin"), **more}


def init(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*INIT, *words],
        cwd=folder,
        env=environ(folder, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def with_claude(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "claude").write_text("#!/bin/sh\n")
    (folder / "bin" / "claude").chmod(0o755)


@contextmanager
def ollama(*models: str) -> Generator[str]:
    """The part of an Ollama that lists its models."""
    content = json.dumps({"models": [{"name": name} for name in models]}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def loaded(file: Path, **variables: str) -> tuple[list[str], Mapping[str, tuple[str, ...]]]:
    config = load(str(file), environ=variables, find_ollama=lambda: False)
    return [provider.name for provider in config.providers], config.aliases


def test_all_that_is_found_is_written_checked_and_run_next(tmp_path: Path) -> None:
    with_claude(tmp_path)
    with ollama("qwen3:4b", "llama3.2") as address:
        done = init(tmp_path, "--yes", ANTHROPIC_API_KEY=KEY, OLLAMA_HOST=address)
    assert done.returncode == 0, done.stderr
    assert f"ollama: answers at {address}, with 2 models" in done.stderr
    assert "Claude Code, which requests claude-opus-5-5" in done.stderr
    assert done.stderr.endswith("wrote config.toml:\nnext: modelplex run claude\n")
    assert "anthropic (anthropic) at https://api.anthropic.com" in done.stdout
    file = tmp_path / "config.toml"
    assert KEY not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    names, aliases = loaded(file, ANTHROPIC_API_KEY=KEY)
    assert names == ["anthropic", "ollama"]
    assert aliases == {"*": ("anthropic/claude-sonnet-5-5",)}


def test_nothing_found_is_the_demo(tmp_path: Path) -> None:
    done = init(tmp_path, "--yes")
    assert done.returncode == 0, done.stderr
    assert "no key in the environment, and no Ollama" in done.stderr
    assert done.stderr.endswith("next: modelplex\n")
    assert loaded(tmp_path / "config.toml") == (["demo"], {"*": ("demo/demo",)})


def test_a_provider_that_was_not_found_is_written_with_its_variable(tmp_path: Path) -> None:
    done = init(tmp_path, "--provider", "openai", "--provider", "demo", "--output", "team.toml")
    assert done.returncode == 0, done.stderr
    assert "Set OPENAI_API_KEY in the environment, and then: modelplex check" in done.stderr
    assert loaded(tmp_path / "team.toml", OPENAI_API_KEY="x")[0] == ["openai", "demo"]
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "there is no terminal to ask in: --yes takes what is found, --provider TYPE names one."),
        (("--provider", "opnai"), 'there is no type of provider "opnai": did you mean "openai"?'),
        (("--provider", "azure"), 'the address of "azure" is yours to know'),
        (("--yes", "--output", "none/config.toml"), "none/config.toml cannot be written: no such file"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    done = init(tmp_path, *words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert not list(tmp_path.glob("*.toml"))


def test_a_file_is_replaced_with_force_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("# mine\n")
    done = init(tmp_path, "--yes")
    assert done.returncode == 1
    assert (
        done.stderr
        == "modelplex: config.toml exists: --force replaces it, --output FILE writes another file.\n"
    )
    assert file.read_text() == "# mine\n"
    assert init(tmp_path, "--yes", "--force").returncode == 0
    assert loaded(file)[0] == ["demo"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]


async def test_a_terminal_is_asked(tmp_path: Path) -> None:
    variables = environ(tmp_path, ANTHROPIC_API_KEY=KEY, OPENAI_API_KEY="sk-other")
    async with terminal(INIT, cwd=tmp_path, environ=variables) as shown:
        await shown.expect("providers [openai, anthropic]:")
        await shown.type("antropic")
        await shown.expect('no type of provider "antropic": did you mean "anthropic"?')
        await shown.type("anthropic, demo")
        await shown.expect("[anthropic/claude-sonnet-5-5]:")
        await shown.type("gpt-5")
        await shown.expect("it begins with anthropic/ or demo/")
        await shown.type("demo/demo")
        await shown.expect("next: modelplex")
        assert await shown.ended() == 0
    assert loaded(tmp_path / "config.toml", ANTHROPIC_API_KEY=KEY) == (
        ["anthropic", "demo"],
        {"*": ("demo/demo",)},
    )
    assert KEY.encode() not in shown.written


async def test_enter_takes_what_is_offered_and_ctrl_c_writes_nothing(tmp_path: Path) -> None:
    variables = environ(tmp_path, ANTHROPIC_API_KEY=KEY)
    async with terminal(INIT, cwd=tmp_path, environ=variables) as shown:
        await shown.expect("providers [anthropic]:")
        shown.press(b"\r")
        await shown.expect("model for every other name")
        shown.press(b"\x03")
        assert await shown.ended() == 130
    assert not (tmp_path / "config.toml").exists()
    async with terminal(INIT, cwd=tmp_path, environ=variables) as shown:
        await shown.expect("providers [anthropic]:")
        shown.press(b"\r")
        await shown.expect("model for every other name")
        shown.press(b"\r")
        assert await shown.ended() == 0
    assert loaded(tmp_path / "config.toml", ANTHROPIC_API_KEY=KEY)[0] == ["anthropic"]
