"""`modelplex run --agent`: an agent of the config keeps its models, its rate and its budget, in
however many programs and gateways.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.processes import CHAT, WAIT_S, answers, chat, served, until
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
    """One that runs as the agent, and asks when it is told to."""

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


def test_an_agent_must_be_chosen_where_the_config_has_some(me: Person) -> None:
    write(me, more='[[agents]]\nname = "reader"\ntoken = "a-long-token"')
    done = me.run("--", "true")
    assert done.returncode == 2
    assert done.stderr == (
        "modelplex run: config.toml has agents with limits of their own: coder, reader. "
        "Choose one: modelplex run --agent coder -- COMMAND\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--agent", "codr"], 'config.toml has no agent "codr"; did you mean "coder"?'),
        (["--agent", "xyz"], 'config.toml has no agent "xyz". Its agents: coder.'),
        (["--agent", "coder", "--socket", "./x"], "leave out --agent, or leave out --socket"),
    ],
)
def test_a_choice_that_fits_nothing_is_refused(me: Person, words: list[str], told: str) -> None:
    write(me)
    done = me.run(*words, "--", "true")
    assert done.returncode == 2
    assert told in done.stderr


def test_an_agent_of_no_config_is_refused(me: Person) -> None:
    done = me.run("--agent", "coder", "--", "true")
    assert done.returncode == 2
    assert "there is no config.toml here" in done.stderr
    (me.folder / "config.toml").write_text('[[providers]]\ntype = "demo"')
    assert 'has no agent "coder": it names none.' in me.run("--agent", "coder", "--", "true").stderr


def test_an_agent_of_other_users_is_refused_before_anything_starts(me: Person) -> None:
    write(me, f"allow_uid = [{os.geteuid() + 1}]")
    done = me.run("--agent", "coder", "--", "true")
    assert done.returncode == 2
    assert "its setting is allow_uid" in done.stderr
    write(me, f"allow_uid = [{os.geteuid()}]")
    assert once(me, "--agent", "coder") == "200"


def test_a_caller_without_a_network_is_what_attest_asks_for(me: Person) -> None:
    write(me, 'attest = "require"')
    assert once(me, "--agent", "coder") == "200"


def test_a_budget_that_is_raised_meanwhile_holds_from_then_on(me: Person) -> None:
    """The config lies where the program cannot write to, so the gateway looks for changes of it."""
    path = me.folder.parent / "team.toml"
    path.write_text(config(me, "budget = { tokens = 1 }"))
    with program(me, "--config", str(path), "--agent", "coder") as running:
        running.ask("200")
        running.ask("402 agent_budget_exceeded")
        path.write_text(config(me, "budget = { tokens = 1000000 }"))
        for _ in range(MOST_LOOKS):
            if running.answer() == "200":
                break
        else:
            pytest.fail("the budget stayed as it was")
        assert answers(f"{me.folder}/coder.socket")


def test_a_link_in_the_place_of_an_agent_s_socket_is_not_followed(me: Person) -> None:
    write(me)
    (me.folder / "coder.socket").symlink_to(me.folder / "other.socket")
    done = me.run("--agent", "coder", "--", "true")
    assert done.returncode == 1
    assert "is a link where the agent's socket should be" in done.stderr


def test_its_models_are_its_own(me: Person) -> None:
    write(me, 'models = ["other"]')
    assert once(me, "--agent", "coder") == "404 model_not_found"


def test_an_agent_without_a_socket_has_its_limits_too(me: Person) -> None:
    write(me, more='[[agents]]\nname = "reader"\ntoken = "a-long-token"\nbudget = { tokens = 1 }')
    assert once(me, "--agent", "reader") == "200"
    assert once(me, "--agent", "reader") == "402 agent_budget_exceeded"
    assert spent(me) == [("reader", 1)]


def test_what_it_spent_is_kept_from_run_to_run(me: Person) -> None:
    write(me, "budget = { tokens = 1 }")
    assert once(me, "--agent", "coder") == "200"
    assert spent(me) == [("coder", 1)]
    assert once(me, "--agent", "coder") == "402 agent_budget_exceeded"
    assert not (me.folder / "coder.socket").exists()
    assert not (me.folder / "coder.socket.runs").exists()


def test_a_config_before_the_command_is_the_config(me: Person) -> None:
    (me.folder / "config.toml").write_text('[[providers]]\ntype = "demo"')
    (me.folder / "other.toml").write_text(config(me, 'models = ["other"]'))
    words = ["--config", "other.toml", "run", "--agent", "coder", "--", sys.executable, "-c", ONCE]
    done = subprocess.run(
        me.command(*words),
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.stdout == "404 model_not_found\n", done.stderr
    missing = me.command("--config", "missing.toml", "run", "--", "true")
    done = subprocess.run(
        missing, cwd=me.folder, env=me.environ, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 1
    assert "missing.toml: expected a readable file" in done.stderr


async def test_a_gateway_of_the_host_that_serves_the_agent_is_used_and_survived(me: Person) -> None:
    async with served(config(me, "rate = { requests = 2 }"), folder=me.folder) as gateway:
        assert once(me, "--agent", "coder") == "200"
        assert once(me, "--agent", "coder") == "200"
        assert once(me, "--agent", "coder") == "429 agent_rate_limited"
        (seen,) = (await gateway.ask("GET", "/_internal/agents")).json["agents"]
        assert (seen["agent"], seen["last_minute"]["requests"], seen["refused"]) == ("coder", 2, 1)
        assert answers(f"{me.folder}/coder.socket")


async def test_a_budget_is_one_in_several_gateways(me: Person) -> None:
    """The agent has no socket, so the run has a gateway of its own beside the host's."""
    text = f'[server]\nstate_folder = "{me.folder}/state"\n[[providers]]\ntype = "demo"\n'
    text += '[[agents]]\nname = "reader"\ntoken = "a-long-token"\nbudget = { tokens = 1 }\n'
    async with served(text, folder=me.folder) as gateway:
        assert once(me, "--agent", "reader") == "200"
        spent_there: list[int] = []
        while not spent_there or spent_there[-1] == 0:
            (seen,) = (await gateway.ask("GET", "/_internal/agents")).json["agents"]
            spent_there.append(seen["spent"]["tokens"])
            assert len(spent_there) < MOST_LOOKS
            await asyncio.sleep(0.01)
        answer = await gateway.ask("POST", CHAT, chat("demo"), headers=["authorization: Bearer a-long-token"])
        assert (answer.status, answer.error["code"]) == (402, "agent_budget_exceeded")


def test_programs_of_one_agent_share_its_rate_and_the_last_one_ends_the_gateway(me: Person) -> None:
    write(me, "rate = { requests = 2 }")
    with program(me, "--agent", "coder") as first, program(me, "--agent", "coder") as second:
        first.ask("200")
        second.ask("200")
        first.ask("429 agent_rate_limited")
        first.end()
        # The gateway that the first one started is still there.
        second.ask("429 agent_rate_limited")
        second.end()
    assert_is_gone(me)


async def test_a_killed_run_takes_the_gateway_from_nobody(me: Person) -> None:
    write(me, "rate = { requests = 1 }")
    with program(me, "--agent", "coder") as first, program(me, "--agent", "coder") as second:
        first.ask("200")
        first.popen.send_signal(signal.SIGKILL)
        first.popen.wait(WAIT_S)
        second.ask("429 agent_rate_limited")
        second.popen.send_signal(signal.SIGKILL)
        second.popen.wait(WAIT_S)
        await until(lambda: not (me.folder / "coder.socket").exists(), what="the gateway's end")


def assert_is_gone(me: Person) -> None:
    """The last run waits only for a gateway that it started itself; another run's has been told,
    and removes its files.
    """
    for name in ("coder.socket", "coder.socket.runs"):
        assert not answers(str(me.folder / name))


def start(me: Person, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=me.folder, env=me.environ, stdout=subprocess.PIPE, text=True)


async def test_many_that_start_at_once_find_one_gateway(me: Person) -> None:
    write(me, "budget = { tokens = 1000000 }\nrate = { requests = 7 }")
    words = me.command("run", "--agent", "coder", "--", sys.executable, "-c", ASK + "print(ask(), ask())")
    started = [start(me, words) for _ in range(4)]
    said = [each.communicate(timeout=4 * WAIT_S)[0].split() for each in started]
    # Of eight requests within a minute seven pass, unless the gateway ended between two of the
    # runs.
    assert [each.returncode for each in started] == [0] * 4
    await until(lambda: not answers(f"{me.folder}/coder.socket"), what="the gateway's end")
    assert spent(me) == [("coder", sum(words.count("200") for words in said))]


def test_the_program_cannot_reach_what_the_runs_hold_it_by(me: Person) -> None:
    write(me)
    code = (
        "import errno, os, socket\n"
        "for name in ('coder.socket', 'coder.socket.runs'):\n"
        "  try: socket.socket(socket.AF_UNIX).connect(name); print('done')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])\n"
        "  try: os.unlink(name); print('done')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.run("--agent", "coder", "--", sys.executable, "-c", code)
    assert done.stdout.split() == ["ECONNREFUSED", "EBUSY"] * 2, done.stderr


def test_a_socket_that_is_taken_names_the_way_to_use_who_listens_there(me: Person) -> None:
    from modelplex.sandbox.cannot_run import CannotRun
    from modelplex.sandbox.run import _Started

    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait(WAIT_S)
    said = "modelplex: ./m.socket is in use by process 7 (uid 0).\n"
    with pytest.raises(CannotRun) as caught:
        _Started(str(me.folder / "none"), ended, lambda: said).wait()
    assert "modelplex run --socket ./m.socket -- COMMAND" in caught.value.sentence
