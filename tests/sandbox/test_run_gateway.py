"""The gateway of a run: found, started, watched, and stopped."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modelplex.records.store.database import open_database
from modelplex.records.store.queries import recent_runs
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.run_gateway import RunGateway
from tests.gateways import one
from tests.processes import WAIT_S, served, until
from tests.sandbox.agent_programs import ASK, config, once, program
from tests.sandbox.sandboxes import LIST_MODELS, Person
from tests.upstreams import chat_stream, provider, stall, stream

DEMO = '[[providers]]\ntype = "demo"\nname = "demo"\n'


async def test_a_running_gateway_is_used_and_not_stopped(me: Person) -> None:
    async with served('[[providers]]\ntype = "demo"\nname = "mine"', folder=me.folder) as gateway:
        words = ["--socket", gateway.socket, "--", sys.executable, "-c", LIST_MODELS]
        done = me.run(*words)
        assert '"demo"' in done.stdout
        assert (await gateway.ask("GET", "/health")).status == 200


def test_a_missing_gateway_is_reported(me: Person) -> None:
    done = me.run("--socket", "nowhere.sock", "--", "true")
    assert done.returncode == 1
    assert "no gateway listens on" in done.stderr


def test_a_gateway_that_ended_without_output_is_reported(me: Person, tmp_path: Path) -> None:
    """As where /tmp is full."""
    (tmp_path / "log").touch()
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait()
    with pytest.raises(CannotRun) as caught:
        RunGateway(str(tmp_path / "none"), ended, lambda: "").wait_until_listening()
    assert "may be full" in caught.value.sentence


def test_a_gateway_that_does_not_start_shows_its_error(me: Person) -> None:
    (me.folder / "config.toml").write_text("[server]\nnonsense = 1")
    done = me.run("--", "true")
    assert done.returncode == 1
    assert "the gateway did not start" in done.stderr
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("is_configured", [False, True])
def test_the_gateway_has_an_admin_socket_that_the_program_cannot_see(
    who: Person, is_configured: bool
) -> None:
    """Not even with the host's file system."""
    if is_configured:
        (who.folder / "config.toml").write_text('[[providers]]\ntype = "demo"\nname = "mine"\n')
    runs = who.home / ".local" / "state" / "modelplex" / "runs"
    code = (
        "import os, sys\n"
        "print('inside', flush=True)\n"
        "sys.stdin.readline()\n"
        f"print(os.path.exists({str(runs)!r}), os.environ.get('MODELPLEX_RUN'))"
    )
    words = who.command("run", "--fs", "host", "--", sys.executable, "-c", code)
    run = subprocess.Popen(
        words, cwd=who.folder, env=who.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == "inside\n"
        (socket,) = runs.glob("*.socket")
        assert socket.stat().st_mode & 0o777 == 0o600
        assert re.fullmatch(r"run-[0-9a-f]{8}", socket.stem)
        stop = subprocess.run(
            who.command("stop", "nobody"),
            cwd=who.folder,
            env=who.environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert (stop.returncode, stop.stdout, stop.stderr) == (1, "0 calls stopped\n", "")
        out, _ = run.communicate("\n", timeout=WAIT_S)
    assert out == "False None\n"
    assert list(runs.glob("*.socket")) == []


def test_the_log_of_the_gateway_is_on_stderr_with_verbose_only(me: Person) -> None:
    assert me.run("--", "true").stderr == ""
    assert "started" in me.run("--verbose", "--", "true").stderr


def test_the_gateway_imports_nothing_from_the_working_folder(me: Person) -> None:
    (me.folder / "msgspec.py").write_text("raise SystemExit('imported')")
    assert me.run("--", "true").returncode == 0


def test_a_config_that_the_program_can_change_is_not_reloaded(me: Person) -> None:
    """By which a command of the program's would run outside."""
    config = me.folder / "config.toml"
    config.write_text('[[providers]]\ntype = "demo"')
    code = (
        "import sys, time, urllib.request as u\n"
        "print('up', flush=True); sys.stdin.readline()\n"
        "open('config.toml', 'w').write('[[providers]]\\nname = \"own\"\\ntype = \"demo\"')\n"
        "for _ in range(8): answer = u.urlopen('http://127.0.0.1:11435/v1/models').read(); time.sleep(0.25)\n"
        "print(b'\"own\"' in answer)"
    )
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", code),
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    (me.folder / "new").write_text(config.read_text())
    (me.folder / "new").replace(config)
    out, err = popen.communicate("\n", timeout=WAIT_S)
    assert out == "False\n", err
    assert "own" in config.read_text()
    assert "while the program ran, something changed config.toml here" in err


def test_a_replaced_link_to_the_config_is_not_followed(me: Person) -> None:
    (me.home / "mine.toml").write_text('[[providers]]\ntype = "demo"')
    (me.folder / "config.toml").symlink_to(me.home / "mine.toml")
    assert me.run("--", "true").stderr == ""
    # It looks for changes each second, and a new config may name a command that it is to run.
    (me.folder / "own.toml").write_text('[[providers]]\nname = "own"\ntype = "demo"')
    done = me.python(
        "import os, time\n"
        "os.rename('own.toml', 'config.toml')\n"
        f"ask = {LIST_MODELS.replace('print(', '(').replace('import urllib.request as u; ', '')!r}\n"
        "import urllib.request as u\n"
        "for _ in range(8): answer = eval(ask); time.sleep(0.25)\n"
        "print('owned_by\":\"own' in answer, 'owned_by\":\"demo' in answer)"
    )
    assert done.stdout == "False True\n", done.stderr
    assert "while the program ran, something changed config.toml here" in done.stderr


def test_a_socket_in_use_by_another_process_is_explained(me: Person) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait(WAIT_S)
    log = "modelplex: ./m.socket is in use by process 7 (uid 0).\n"
    with pytest.raises(CannotRun) as caught:
        RunGateway(str(me.folder / "none"), ended, lambda: log).wait_until_listening()
    assert "modelplex run --socket ./m.socket -- COMMAND" in caught.value.sentence


# --- a gateway of the host for the same config


def of_user(me: Person) -> dict[str, str]:
    """The gateway keeps its state where the runs of this user look for it."""
    return {"HOME": str(me.home), "XDG_STATE_HOME": str(me.home / ".local" / "state")}


async def test_a_run_attaches_to_the_gateway_of_its_config(me: Person) -> None:
    """With an identity, tags and a record of its own."""
    async with served(DEMO, folder=me.folder, environ=of_user(me)) as gateway:
        done = me.run("--tag", "pr=12", "--", sys.executable, "-c", ASK + "print(ask())")
        assert done.stdout == "200\n", done.stderr
        first, last = done.stderr.splitlines()
        used = "it uses the gateway of config.toml that runs already (process"
        assert first == f"modelplex run: {used} {gateway.popen.pid})"
        assert last.startswith("modelplex run: 1 call, ")
        run = last.partition("modelplex show ")[2].partition(" ")[0]
        with sqlite3.connect(me.home / ".local/state/modelplex/records.sqlite") as database:
            found = database.execute("SELECT run, name, value FROM run_tags").fetchall()
        assert found == [(run, "pr", "12")]
        assert (await gateway.ask("GET", "/health")).status == 200


async def test_two_agents_of_one_gateway_are_told_apart(me: Person) -> None:
    text = config(me, "rate = { requests = 1 }") + '[[agents]]\nname = "reader"\ntoken = "a-long-token"\n'
    async with served(text, folder=me.folder, environ=of_user(me)):
        assert once(me, "--agent", "coder") == "200"
        assert once(me, "--agent", "reader") == "200"
        assert once(me, "--agent", "coder") == "429 agent_rate_limited"


SDKS = """
import anthropic, openai
chat = openai.OpenAI(base_url="http://127.0.0.1:11435/v1", api_key="x", max_retries=3)
claude = anthropic.Anthropic(base_url="http://127.0.0.1:11435", api_key="x", max_retries=3)
talk = dict(model="m", messages=[{"role": "user", "content": "Hi"}])

def said(error):
    body = error.body or {}
    return getattr(error, "status_code", None), body.get("error", body).get("code") or body.get("error", body).get("type")

with chat.chat.completions.create(**talk, stream=True) as stream:
    print(next(stream).choices[0].delta.role, flush=True)
    try:
        for _ in stream: pass
    except openai.APIError as error:
        print("stream", error.code)
for call in (
    lambda: chat.chat.completions.create(**talk),
    lambda: chat.responses.create(model="m", input="Hi"),
    lambda: claude.messages.create(**talk, max_tokens=9),
    lambda: chat.models.list(),
):
    try:
        call()
        print("answered")
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        print(error.status_code, said(error)[1])
"""


async def recorded_run(store: Path) -> str:
    """The id of the only run in the store, once it is there."""
    found: list[str] = []

    def read() -> bool:
        if store.exists():
            with closing(open_database(store, read_only=True)) as database:
                found[:] = [each.id for each in recent_runs(database)]
        return bool(found)

    await until(read, what="the record of the run")
    (run,) = found
    return run


async def test_a_run_is_stopped_at_the_gateway_that_it_uses(me: Person) -> None:
    """The official clients get errors of their protocols, and repeat nothing."""
    async with provider(*[stream(*chat_stream("first")[:-1], then=stall)] * 9) as up:
        text = f'[server]\nadmin_socket = "./admin.sock"\n{one(up.url)}'
        async with served(text, folder=me.folder, environ=of_user(me)):
            popen = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                me.command("run", "--", sys.executable, "-c", SDKS),
                cwd=me.folder,
                env=me.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                assert popen.stdout is not None
                assert await asyncio.to_thread(popen.stdout.readline) == "assistant\n"
                run = await recorded_run(me.home / ".local/state/modelplex/records.sqlite")
                stopped = await asyncio.to_thread(
                    subprocess.run,
                    me.command("stop", run, "--config", "config.toml"),
                    cwd=me.folder,
                    env=me.environ,
                    capture_output=True,
                    text=True,
                    timeout=WAIT_S,
                )
                assert stopped.stdout == f"1 call stopped; {run} gets no more\n", stopped.stderr
                out, err = await asyncio.to_thread(popen.communicate, timeout=WAIT_S)
            finally:
                popen.kill()
        assert out.splitlines() == [
            "stream stopped_by_operator",
            "403 stopped_by_operator",
            "403 stopped_by_operator",
            "403 permission_error",
            "403 stopped_by_operator",
        ], err
        assert len(up.seen) == 1
    assert "the operator stopped it" in err
    shown = me.command("show", run, "--config", "config.toml")
    done = subprocess.run(shown, cwd=me.folder, env=me.environ, capture_output=True, text=True, check=True)  # noqa: ASYNC221 - at the end
    assert f"stop run {run} (ok)" in done.stdout


async def test_the_end_of_a_used_gateway_is_a_sentence(me: Person) -> None:
    async with served(DEMO, folder=me.folder, environ=of_user(me)) as gateway:
        words = me.command("run", "--", sys.executable, "-c", ASK + "print('up', flush=True)\ninput()")
        popen = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            words,
            cwd=me.folder,
            env=me.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert popen.stdout is not None
        assert popen.stdout.readline() == "up\n"
        gateway.popen.send_signal(signal.SIGTERM)
        await until(lambda: gateway.popen.poll() is not None, what="the gateway's end")
        _, err = popen.communicate("\n", timeout=WAIT_S)
    assert "the gateway that it used has ended: the program reaches no model" in err
    assert popen.returncode == 0


def test_runs_of_an_agent_without_a_socket_share_a_gateway(me: Person) -> None:
    text = f'[server]\nstate_folder = "{me.folder}/state"\n{DEMO}'
    text += '[[agents]]\nname = "reader"\ntoken = "a-long-token"\nrate = { requests = 2 }\n'
    (me.folder / "config.toml").write_text(text)
    with program(me, "--agent", "reader") as first, program(me, "--agent", "reader") as second:
        first.ask("200")
        second.ask("200")
        first.ask("429 agent_rate_limited")
        first.end()
        second.ask("429 agent_rate_limited")


# --- a budget


@pytest.mark.parametrize("words", [(), ("--agent", "coder")])
def test_a_budget_refuses_further_calls_and_is_summed_up(me: Person, words: tuple[str, ...]) -> None:
    (me.folder / "config.toml").write_text(config(me, "") if words else DEMO)
    code = ASK + "print(ask(), ask(), ask())"
    done = me.run("--budget", "tokens=40", *words, "--", sys.executable, "-c", code)
    assert done.stdout == "200 200 402 run_budget_exceeded\n", done.stderr
    last = done.stderr.splitlines()[-1]
    assert "tokens spent of the budget of 40 tokens" in last
    assert last.endswith(", which runs of coder share") == bool(words)


async def test_a_gateway_that_is_not_this_users_takes_no_budget(me: Person) -> None:
    async with served(DEMO, folder=me.folder) as gateway:
        done = me.run("--budget", "usd=5", "--socket", gateway.socket, "--", "true")
    assert done.returncode == 2
    assert "--budget" in done.stderr


def test_an_interrupt_at_the_very_end_changes_no_status(me: Person) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('end', flush=True); raise SystemExit(3)"
    )
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", code),
        cwd=me.folder,
        env=me.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with popen:
        assert popen.stdout is not None
        assert popen.stdout.readline() == "end\n"
        while popen.poll() is None:
            popen.send_signal(signal.SIGINT)
        assert popen.stderr is not None
        assert popen.stderr.read() == ""
    assert popen.returncode == 3
