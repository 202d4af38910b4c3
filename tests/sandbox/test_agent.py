"""The agent that a program of `modelplex run` is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.command_options import parse
from modelplex.sandbox.agent import Agent, choose_agent
from tests.processes import WAIT_S
from tests.sandbox.agent_programs import ONCE, config, once, spent, write
from tests.sandbox.sandboxes import Person


def test_an_agent_is_required_where_the_config_has_some(me: Person) -> None:
    write(me, more='[[agents]]\nname = "reader"\ntoken = "a-long-token"')
    done = me.run("--", "true")
    assert done.returncode == 2
    assert done.stderr == (
        "modelplex run: config.toml has agents with limits of their own: coder, reader. "
        "Choose one: modelplex run --agent coder -- COMMAND\n"
    )


@pytest.mark.parametrize(
    ("words", "report"),
    [
        (["--agent", "codr"], 'config.toml has no agent "codr"; did you mean "coder"?'),
        (["--agent", "xyz"], 'config.toml has no agent "xyz". Its agents: coder.'),
        (["--agent", "coder", "--socket", "./x"], "leave out --agent, or leave out --socket"),
    ],
)
def test_a_wrong_agent_is_rejected(me: Person, words: list[str], report: str) -> None:
    write(me)
    done = me.run(*words, "--", "true")
    assert done.returncode == 2
    assert report in done.stderr


def test_an_agent_without_a_config_is_rejected(me: Person) -> None:
    done = me.run("--agent", "coder", "--", "true")
    assert done.returncode == 2
    assert "there is no config.toml here" in done.stderr
    (me.folder / "config.toml").write_text('[[providers]]\ntype = "demo"')
    assert 'has no agent "coder": it has no agents.' in me.run("--agent", "coder", "--", "true").stderr


def test_an_agent_of_other_users_is_rejected(me: Person) -> None:
    write(me, f"allow_uid = [{os.geteuid() + 1}]")
    done = me.run("--agent", "coder", "--", "true")
    assert done.returncode == 2
    assert "see its setting allow_uid" in done.stderr
    write(me, f"allow_uid = [{os.geteuid()}]")
    assert once(me, "--agent", "coder") == "200"


def test_the_program_passes_attestation(me: Person) -> None:
    write(me, 'attest = "require"')
    assert once(me, "--agent", "coder") == "200"


def test_a_link_at_an_agents_socket_is_not_followed(me: Person) -> None:
    write(me)
    (me.folder / "coder.socket").symlink_to(me.folder / "other.socket")
    done = me.run("--agent", "coder", "--", "true")
    assert done.returncode == 1
    assert "is a link instead of the agent's socket" in done.stderr


def test_the_models_of_the_agent_apply(me: Person) -> None:
    write(me, 'models = ["other"]')
    assert once(me, "--agent", "coder") == "404 model_not_found"


def test_limits_apply_to_an_agent_without_a_socket(me: Person) -> None:
    write(me, more='[[agents]]\nname = "reader"\ntoken = "a-long-token"\nbudget = { tokens = 1 }')
    assert once(me, "--agent", "reader") == "200"
    assert once(me, "--agent", "reader") == "402 agent_budget_exceeded"
    assert spent(me) == [("reader", 1)]


def test_a_budget_is_kept_between_runs(me: Person) -> None:
    write(me, "budget = { tokens = 1 }")
    assert once(me, "--agent", "coder") == "200"
    assert spent(me) == [("coder", 1)]
    assert once(me, "--agent", "coder") == "402 agent_budget_exceeded"
    assert not (me.folder / "coder.socket").exists()
    assert not (me.folder / "coder.socket.runs").exists()


def test_a_config_option_before_the_command_applies(me: Person) -> None:
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


def test_without_agents_none_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[providers]]\ntype = "demo"')
    for text in ('[[providers]]\ntype = "demo"', "not toml"):
        path.write_text(text)
        assert choose_agent(parse(["run", "x"]), str(path)) is None
    assert choose_agent(parse(["run", "x"]), str(tmp_path / "absent")) is None
    assert choose_agent(parse(["run", "x"]), None) is None


def test_a_named_agent_has_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[[providers]]\ntype = "demo"\n[[agents]]\nname = "a"\nsocket = "./a.sock"\n'
        '[[agents]]\nname = "b"\ntoken = "a-long-token"'
    )
    assert choose_agent(parse(["run", "--agent", "a", "x"]), str(path)) == Agent("a", "./a.sock")
    assert choose_agent(parse(["run", "--agent", "b", "x"]), str(path)) == Agent("b", None)
    assert choose_agent(parse(["run", "--socket", "s", "x"]), str(path)) is None
