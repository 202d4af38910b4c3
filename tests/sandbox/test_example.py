"""examples/agent.py, as the README starts it."""

from __future__ import annotations

import sys

import pytest

from tests.sandbox.sandboxes import ROOT, Person

AGENT = ROOT / "examples" / "agent.py"
WITHOUT_OPENAI = "import sys, runpy; sys.modules['openai'] = None; sys.argv = ['agent.py']; runpy.run_path('agent.py', run_name='__main__')"


@pytest.mark.parametrize("code", [[], ["-c", WITHOUT_OPENAI]], ids=["openai", "stdlib"])
def test_the_agent_in_the_sandbox_chats_streams_and_calls_a_tool(who: Person, code: list[str]) -> None:
    (who.folder / "agent.py").write_text(AGENT.read_text())
    done = who.run("--", sys.executable, *(code or ["agent.py"]))
    assert done.returncode == 0, done.stderr
    assert "has no way out" in done.stdout
    assert "the model asks for: count_words" in done.stdout
    assert "The tool count_words gave" in done.stdout


def test_the_agent_outside_reports_a_way_out(me: Person) -> None:
    import subprocess

    code = "import sys; sys.path.insert(0, sys.argv[1]); import agent; print(agent.look_for_a_way_out())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(AGENT.parent)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.endswith("True\n")
