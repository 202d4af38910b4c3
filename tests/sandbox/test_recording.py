"""What `modelplex run` records of a run, and what it says at the end."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelplex.records.run_facts import SandboxFacts
from modelplex.records.store.queries import RunSummary
from modelplex.sandbox.agent import Agent
from modelplex.sandbox.recording import Recording, git_facts, is_tag, sandbox_facts, summary_line
from modelplex.sandbox.values import Budget
from modelplex.server.record_store import RUN_VARIABLE
from modelplex.server.run_messages import MAX_COMMAND, RunEnded
from tests.sandbox.sandboxes import PEOPLE, Person, person

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
CHAT = (
    "import json, os, urllib.request\n"
    "body = json.dumps({'model': 'demo', 'messages': [{'role': 'user', 'content': 'a word that is recorded'}]}).encode()\n"
    "url = os.environ['OPENAI_BASE_URL'] + '/chat/completions'\n"
    "print(urllib.request.urlopen(urllib.request.Request(url, body, {'content-type': 'application/json'})).status)\n"
)


@pytest.fixture(params=PEOPLE)
def user(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as found:
        (found.folder / "config.toml").write_text(DEMO)
        found.give(found.folder / "config.toml")
        yield found


def store(user: Person) -> Path:
    return user.home / ".local" / "state" / "modelplex" / "records.sqlite"


def rows(user: Person, sql: str) -> list[Any]:
    with sqlite3.connect(store(user)) as database:
        found = database.execute(sql).fetchall()
    database.close()
    return found


def test_a_run_is_recorded_whole_and_summed_up_in_one_line(user: Person) -> None:
    done = user.python(CHAT, "--tag", "pr=12", "--tag", "team=a=b")
    assert done.stdout == "200\n", done.stderr
    (run,) = rows(user, "SELECT id, kind, ended FROM runs")
    assert run[1] == "run"
    assert run[2] is not None
    assert rows(user, "SELECT name, value FROM run_tags ORDER BY name") == [("pr", "12"), ("team", "a=b")]
    assert rows(user, "SELECT run, tokens_in > 0 FROM calls WHERE kind = 'model'") == [(run[0], 1)]
    assert rows(user, "SELECT request IS NOT NULL, response IS NOT NULL FROM bodies") == [(1, 1)]
    (line,) = [each for each in done.stderr.splitlines() if "the record:" in each]
    assert line.startswith("modelplex run: 1 call, ")
    assert "no cost, since only a demo answered" in line
    assert line.endswith(f"modelplex show {run[0]} (in {store(user)})")
    assert stat.S_IMODE(store(user).stat().st_mode) == 0o600


def test_a_run_that_is_not_recorded_leaves_nothing(user: Person) -> None:
    done = user.python(CHAT, "--no-record")
    assert done.stdout == "200\n", done.stderr
    assert not store(user).exists()
    assert "the record:" not in done.stderr


def test_the_program_cannot_read_the_record(user: Person) -> None:
    user.python(CHAT)
    assert store(user).exists()
    done = user.python(f"print(__import__('os').path.exists({str(store(user))!r}))", "--fs", "host")
    assert done.stdout == "False\n", done.stderr


def test_a_tag_needs_a_name_and_a_value(user: Person) -> None:
    assert [is_tag(text) for text in ("pr=12", "a.b-c_d=x y", "=1", "pr", "p r=1", "pr=")] == [
        True,
        True,
        *[False] * 4,
    ]
    done = user.run("--tag", "pr", "--", "true")
    assert done.returncode == 2
    assert "--tag needs a name and a value" in done.stderr


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "no_record": False,
            "check": False,
            "socket": None,
            "tag": [],
            "budget": None,
            "seed": None,
            "publish": [],
            "allow_port": [],
            **more,
        }
    )


def test_the_gateway_is_told_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Recording(arguments(tag=["pr=12"]), ["python", "a b.py"], None, None, now=5.0)
    run = json.loads(found.environ[RUN_VARIABLE])
    assert run["id"].startswith("run-")
    assert (run["started"], run["command"], run["folder"]) == (5.0, "python 'a b.py'", str(tmp_path))
    assert run["tags"] == {"pr": "12"}
    for off in ({"no_record": True}, {"check": True}, {"socket": "./m.sock"}):
        unrecorded = Recording(arguments(**off), [], None, None)
        assert unrecorded.environ == {RUN_VARIABLE: "off"}
        assert unrecorded.summary() is None


def test_a_gateway_that_is_started_may_serve_several_runs() -> None:
    found = Recording(arguments(budget=Budget(5.0, None)), ["x" * 100_000], Agent("coder", "./c.sock"), None)
    assert found.gateway_environ == {RUN_VARIABLE: "shared"}
    request = found.request("/s", Agent("coder", "./c.sock"), may_write_config=True)
    assert (request.agent, request.usd, request.tokens, request.is_recorded) == ("coder", 5.0, None, True)
    assert request.run.agent == "coder"
    assert len(request.run.command) == MAX_COMMAND
    off = Recording(arguments(no_record=True), ["true"], None, None)
    assert off.gateway_environ == {RUN_VARIABLE: "off"}
    assert not off.request("/s", None, may_write_config=False).is_recorded


def test_what_was_spent_of_a_budget_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    def printed(ended: RunEnded | None, budget: Budget | None, agent: Agent | None = None) -> str:
        recording = Recording(arguments(no_record=True, budget=budget), ["true"], agent, None)
        recording.print_summary(ended, is_attached=True)
        return capfd.readouterr().err

    ended = RunEnded(is_last=True, usd=1.5, tokens=30)
    assert printed(ended, None) == printed(None, Budget(5.0, None)) == ""
    assert printed(ended, Budget(5.0, None)) == "modelplex run: $1.50 spent of the budget of $5\n"
    assert printed(ended, Budget(5.0, 90), Agent("eval", None)) == (
        "modelplex run: $1.50 and 30 tokens spent of the budget of $5 and 90 tokens, which runs of eval share\n"
    )


def summary(**more: Any) -> RunSummary:
    texts: dict[str, Any] = dict.fromkeys(("agent", "command", "folder", "repository", "branch"), "")
    counted = ("calls", "tool_calls", "failed", "refused", "stripped", "tokens_in", "tokens_out", "unpriced")
    rest: dict[str, Any] = {
        "id": "run-1",
        "kind": "run",
        "tags": {},
        "started": 0.0,
        "ended": None,
        "cost": 0.0,
        "last": 0.0,
    }
    values: dict[str, Any] = {**texts, **dict.fromkeys(counted, 0), **rest, **more}
    return RunSummary(**values)


def test_the_summary_names_what_happened() -> None:
    assert summary_line(summary(calls=1), "F") == (
        "1 call, 0 tokens in, 0 out, $0.00; the record: modelplex show run-1 (in F)"
    )
    demo = summary_line(summary(calls=1, tokens_in=9), "F", is_demo=True)
    assert demo.startswith("1 call, 9 tokens in, 0 out, no cost, since only a demo answered; ")
    priced = summary_line(summary(calls=1, cost=0.5), "F", is_demo=True)
    assert priced.startswith("1 call, 0 tokens in, 0 out, $0.5; ")
    full = summary(
        calls=3,
        tool_calls=2,
        tokens_in=1200,
        tokens_out=80,
        cost=0.5,
        unpriced=1,
        failed=1,
        refused=2,
        stripped=1,
    )
    assert summary_line(full, "F") == (
        "3 calls, 2 tool calls, 1200 tokens in, 80 out, $0.5 and 1 of unknown price; 1 failed; 2 refused; "
        "1 value stripped; the record: modelplex show run-1 (in F)"
    )


def test_branch_and_repository_are_read_without_git(tmp_path: Path) -> None:
    assert git_facts(tmp_path) == ("", "")
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/feature/x\n")
    inside = tmp_path / "src" / "deep"
    inside.mkdir(parents=True)
    assert git_facts(inside) == (tmp_path.name, "feature/x")
    (git / "config").write_text(
        '[core]\n\tbare = false\n[remote "origin"]\n\turl = https://me:secret@example.com/p.git\n[branch "x"]\n'
    )
    assert git_facts(inside) == ("https://example.com/p.git", "feature/x")
    (git / "config").write_text('[remote "origin"]\n\tfetch = +refs\n\turl = git@example.com:p.git\n')
    (git / "HEAD").write_text("0123456789abcdef0123\n")
    assert git_facts(inside) == ("git@example.com:p.git", "0123456789ab")


def test_a_worktree_is_followed(tmp_path: Path) -> None:
    common = tmp_path / "main" / ".git"
    own = common / "worktrees" / "w"
    own.mkdir(parents=True)
    (common / "config").write_text('[remote "origin"]\nurl = https://example.com/p.git\n')
    (own / "HEAD").write_text("ref: refs/heads/w\n")
    (own / "commondir").write_text("../..\n")
    tree = tmp_path / "w"
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {own}\n")
    assert git_facts(tree) == ("https://example.com/p.git", "w")


@pytest.mark.timeout(120)
def test_a_run_is_certified_by_what_was_measured_inside(user: Person) -> None:
    config = user.folder / "config.toml"
    digest = hashlib.sha256(config.read_bytes()).hexdigest()
    run = certified_run(user)
    made = certify(user, run, "--json")
    assert made.returncode == 0, made.stdout + made.stderr
    found = json.loads(made.stdout)
    assert found["checks"][0]["text"] == "no interface but lo, and no route out, measured inside at the start"
    assert (found["models"], found["config"]) == ({"demo of demo": 1}, [digest])
    config.write_text(f'{DEMO}[policy]\nsocket = "open"\n')
    run = certified_run(user, "--allow-port", "5432")
    made = certify(user, run)
    assert made.returncode == 1
    assert made.stdout.endswith(f"{run}: not certified: openings, policy\n"), made.stdout


def certify(user: Person, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        user.command("certify", *words), cwd=user.folder, capture_output=True, text=True, timeout=50, check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(user.home)},
    )  # fmt: skip


def certified_run(user: Person, *options: str) -> str:
    done = user.python(CHAT, *options)
    assert done.stdout == "200\n", done.stderr
    found = re.search(r"modelplex show (run-\w+)", done.stderr)
    assert found is not None, done.stderr
    return found[1]


def test_facts_are_made_of_what_was_measured_and_of_the_options() -> None:
    options = argparse.Namespace(publish=[3000], allow_port=[], packages=["pypi", "npm"])
    here = Path("/proc/self/ns/net").stat().st_ino
    found = sandbox_facts({"interfaces": ["lo", "eth0"], "routes": 1, "namespace": here}, options)
    assert found == SandboxFacts(
        ("lo", "eth0"), 1, own_network=False, openings=("publish 3000", "packages pypi,npm")
    )
