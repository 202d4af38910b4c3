"""The gateway of a run: its config with one listener, and its uses."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.config import AgentConfig, Config, McpConfig, Secret, ServerConfig
from modelplex.sandbox.gateway import config_for_runs
from tests.processes import CHAT, WAIT_S, answers, chat, served, until
from tests.sandbox.agent_programs import ASK, MOST_LOOKS, config, once, program, spent, write
from tests.sandbox.sandboxes import Person

AGENT = AgentConfig(
    name="a",
    socket="./a.socket",
    socket_mode="0666",
    socket_group="staff",
    models=("m",),
    token=Secret("a-token-1"),
)
CONFIG = Config(
    server=ServerConfig(
        http=("127.0.0.1:1",), socket=("./m.socket",), vsock=(7,), socket_group="all", attest="require"
    ),
    mcp=McpConfig(enabled=True, stdio_socket="./lines"),
    agents=(AGENT, AgentConfig(name="b", socket="./b.socket")),
)


@pytest.mark.parametrize("path", ["./a.socket", str(Path.cwd() / "a.socket")])
def test_an_agent_keeps_its_own_socket_and_settings(path: str) -> None:
    made = config_for_runs(CONFIG, agent="a", socket=path)
    assert made.agents == (AGENT,)
    assert (made.server.http, made.server.socket, made.server.vsock) == ((), (), ())
    assert (made.server.socket_group, made.server.attest) == ("all", "require")
    assert made.mcp == McpConfig(enabled=True)


def test_a_socket_that_the_config_has_changed_is_not_served() -> None:
    (agent,) = config_for_runs(CONFIG, agent="a", socket="./before.socket").agents
    assert (agent.name, agent.socket, agent.models) == ("a", None, ("m",))


def test_an_agent_that_was_removed_is_unknown() -> None:
    assert config_for_runs(CONFIG, agent="c").agents == ()


def test_without_an_agent_there_is_no_listener() -> None:
    made = config_for_runs(Config(server=CONFIG.server, mcp=CONFIG.mcp), agent=None)
    assert (made.agents, made.server.http, made.server.socket, made.server.vsock) == ((), (), (), ())
    assert made.mcp.stdio_socket is None


def test_the_admin_socket_is_the_runs_own() -> None:
    theirs = Config(server=ServerConfig(socket=("./m.socket",), admin_socket="./admin.socket"))
    assert config_for_runs(theirs, agent=None).server.admin_socket is None
    made = config_for_runs(theirs, agent=None, admin_socket="/s/7.socket")
    assert made.server.admin_socket == "/s/7.socket"


# --- shared by the runs of an agent


def test_a_raised_budget_applies_after_a_reload(me: Person) -> None:
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


async def test_a_gateway_of_the_host_is_used_and_not_stopped(me: Person) -> None:
    async with served(config(me, "rate = { requests = 2 }"), folder=me.folder) as gateway:
        assert once(me, "--agent", "coder") == "200"
        assert once(me, "--agent", "coder") == "200"
        assert once(me, "--agent", "coder") == "429 agent_rate_limited"
        (seen,) = (await gateway.ask("GET", "/_internal/agents")).json["agents"]
        assert (seen["agent"], seen["last_minute"]["requests"], seen["refused"]) == ("coder", 2, 1)
        assert answers(f"{me.folder}/coder.socket")


async def test_several_gateways_share_a_budget(me: Person) -> None:
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


def test_programs_of_an_agent_share_a_gateway_until_the_last_ends(me: Person) -> None:
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


async def test_a_killed_run_does_not_stop_the_shared_gateway(me: Person) -> None:
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
    """The last run waits only for a gateway that it started itself; another run's ends on its
    own, and removes its files.
    """
    for name in ("coder.socket", "coder.socket.runs"):
        assert not answers(str(me.folder / name))


def start(me: Person, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=me.folder, env=me.environ, stdout=subprocess.PIPE, text=True)


async def test_runs_that_start_at_once_share_one_gateway(me: Person) -> None:
    write(me, "budget = { tokens = 1000000 }\nrate = { requests = 7 }")
    words = me.command("run", "--agent", "coder", "--", sys.executable, "-c", ASK + "print(ask(), ask())")
    started = [start(me, words) for _ in range(4)]
    outputs = [each.communicate(timeout=4 * WAIT_S)[0].split() for each in started]
    # Of eight requests within a minute seven pass, unless the gateway ended between two of the
    # runs.
    assert [each.returncode for each in started] == [0] * 4
    await until(lambda: not answers(f"{me.folder}/coder.socket"), what="the gateway's end")
    assert spent(me) == [("coder", sum(words.count("200") for words in outputs))]


def test_the_program_cannot_reach_the_socket_of_the_uses(me: Person) -> None:
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
