"""Completions, asked of the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from modelplex.command_options import build_parser
from modelplex.commands.completion import completion
from modelplex.commands.parser_rows import rows_of

WAIT_S = 30.0

OFFERED = [
    ("modelplex chec", "check"),
    ("modelplex --conf", "--config"),
    ("modelplex mcp ap", "approve"),
    ("modelplex --config x check --rea", "--reach"),
    ("modelplex run --fs priv", "private"),
    ("modelplex completion zs", "zsh"),
    ("modelplex --config FOLDER/config.t", "FOLDER/config.toml"),
    ("modelplex import litellm FOLDER/config.t", "FOLDER/config.toml"),
    ("modelplex run --env A=b ech", "echo"),
    ("modelplex run -- ech", "echo"),
    ("modelplex run opencod", "opencode"),
    ("modelplex init --out", "--output"),
    ("modelplex run --agent code", "coder"),
    ("modelplex run --agent rea", "reader"),
    ("modelplex run ls FOLDER/config.t", "FOLDER/config.toml"),
]
"""What is typed, and what it becomes."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = '[[agents]]\nname = "coder"\n[[agents]]\nmodels = []\nname = "reader"\n[[providers]]\nname = "code-x"\n'
    (tmp_path / "config.toml").write_text(text)
    return tmp_path


def script(shell: str, folder: Path) -> Path:
    file = folder / "script"
    file.write_text(completion(rows_of(build_parser()), shell))
    return file


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def ran(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_bash_offers(typed: str, offered: str, folder: Path) -> None:
    words = typed.replace("FOLDER", str(folder)).split()
    ask = f"source {script('bash', folder)}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
    out = ran("bash", "--norc", text=f"cd {folder}\n" + ask + '_modelplex; printf "%s\\n" "${COMPREPLY[@]}"')
    assert offered.replace("FOLDER", str(folder)) in out.splitlines()
    if "ech" not in typed:
        assert len(out.splitlines()) == 1


def test_bash_completes_a_value_after_an_equals_sign(folder: Path) -> None:
    ask = f"source {script('bash', folder)}\nCOMP_WORDS=(modelplex run --fs = pr); COMP_CWORD=4\n"
    assert ran("bash", "--norc", text=ask + 'modelplex=1; _modelplex; echo "${COMPREPLY[@]}"') == "private\n"


@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_fish_offers(typed: str, offered: str, folder: Path) -> None:
    needs("fish")
    line = typed.replace("FOLDER", str(folder))
    out = ran(
        "fish", "--no-config", "-c", f"cd {folder}; source {script('fish', folder)}; complete -C '{line}'"
    )
    assert offered.replace("FOLDER", str(folder)) in [each.partition("\t")[0] for each in out.splitlines()]


class Terminal:
    """zsh on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        pid, self.fd = pty.fork()
        if not pid:
            environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "% "}
            os.execvpe("zsh", ["zsh", "-f"], environ)
        self.pid, self.seen = pid, ""

    def type(self, text: str, *, until: str) -> None:
        """Type, and read until this is seen."""
        self.seen = ""
        os.write(self.fd, text.encode())
        deadline = time.monotonic() + WAIT_S
        while until not in self.seen:
            assert select.select([self.fd], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += os.read(self.fd, 65536).decode(errors="replace")

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def test_zsh_completes(folder: Path) -> None:
    needs("zsh")
    terminal = Terminal(folder)
    try:
        terminal.type(
            f"autoload -Uz compinit; compinit -u -d {folder}/dump; cd {folder}; echo rea''dy\n", until="ready"
        )
        terminal.type(f"source {script('zsh', folder)}; compdef ls=ls; echo sour''ced\n", until="sourced")
        for typed, becomes in OFFERED:
            line = typed.replace("FOLDER", str(folder))
            whole = f"{' '.join(line.split()[:-1])} {becomes.replace('FOLDER', str(folder))}"
            if typed.endswith(" ech") or " ls " in typed:
                continue  # several programs begin so, and an argument of ls is for ls's own completion
            # Ctrl-A and Ctrl-E quote the completed line, and print it in one piece.
            terminal.type(f"{line}\t\x01print -r -- '<\x05>'\n", until=f"\n<{whole}")
    finally:
        terminal.close()
