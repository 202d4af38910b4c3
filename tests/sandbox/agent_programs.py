"""A config with an agent, and programs that run as it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person

MOST_LOOKS = 2000
"""A bound on a wait, far above what it needs."""


ASK = """
import json, sys, urllib.error, urllib.request as u

def ask(model="demo"):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    try:
        u.urlopen(u.Request("http://127.0.0.1:11435/v1/chat/completions", body, {"content-type": "application/json"})).read()
        return 200
    except urllib.error.HTTPError as error:
        return f"{error.code} {json.load(error)['error']['code']}"
"""


ONCE = ASK + "print(ask())"


ON_REQUEST = ASK + "print('up', flush=True)\nfor line in sys.stdin: print(ask(), flush=True)"
"""Asks once for each line that it reads."""


def config(me: Person, limits: str, *, more: str = "") -> str:
    return (
        f'[server]\nstate_folder = "{me.folder}/state"\n[[providers]]\ntype = "demo"\n'
        f'[[agents]]\nname = "coder"\nsocket = "{me.folder}/coder.socket"\n{limits}\n{more}'
    )


def write(me: Person, limits: str = "", *, more: str = "") -> None:
    (me.folder / "config.toml").write_text(config(me, limits, more=more))


def once(me: Person, *words: str) -> str:
    done = me.run(*words, "--", sys.executable, "-c", ONCE)
    assert done.stdout, done.stderr
    return done.stdout.strip()


def spent(me: Person) -> list[tuple[str, int]]:
    with sqlite3.connect(me.folder / "state" / "agents.sqlite") as database:
        return list(database.execute("SELECT agent, SUM(requests) FROM spent GROUP BY agent"))


class Program:
    """A program that runs as the agent, and sends a request when it reads a line."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.read("up")

    def read(self, expected: str) -> None:
        assert self.popen.stdout is not None
        assert self.popen.stdout.readline() == f"{expected}\n"

    def answer(self) -> str:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()
        return self.popen.stdout.readline().strip()

    def ask(self, expected: str) -> None:
        assert self.answer() == expected

    def end(self) -> None:
        self.popen.communicate(timeout=WAIT_S)


@contextmanager
def program(me: Person, *words: str) -> Generator[Program]:
    popen = subprocess.Popen(
        me.command("run", *words, "--", sys.executable, "-c", ON_REQUEST),
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Program(popen)
    finally:
        popen.kill()
        popen.communicate()
