"""inspect_ai, pinned, reads what `modelplex export --format inspect` writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from modelplex import cli
from tests.agents.installed import HOME, TIMEOUT_S
from tests.commands.recorded import record_in

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

READ = """
import json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(sys.argv[1])
sample = log.samples[0]
print(json.dumps({
    "task": log.eval.task,
    "tags": log.eval.tags,
    "tokens": log.stats.model_usage["p/m-1"].total_tokens,
    "roles": [message.role for message in sample.messages],
    "call": [[call.function, call.arguments] for call in sample.messages[2].tool_calls],
    "inputs": [[message.role for message in event.input] for event in sample.events],
    "outputs": [event.output.completion for event in sample.events],
    "tools": [tool.name for tool in sample.events[0].tools],
}))
"""


def test_inspect_reads_an_exported_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = record_in(tmp_path)
    assert cli.main(["export", "run-1", "--format", "inspect", "--store", place]) == 0
    log = tmp_path / "run.json"
    log.write_text(capfd.readouterr().out)
    done = subprocess.run(
        [HOME / "inspect" / "bin" / "python", "-c", READ, str(log)],
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_S,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["task"], found["tags"], found["tokens"]) == ("python agent.py", ["pr=12"], 36)
    assert found["roles"] == ["system", "user", "assistant", "tool", "assistant"]
    assert found["call"] == [["read_file", {"path": "a.py"}]]
    assert found["inputs"][:2] == [["system", "user"], ["system", "user", "assistant", "tool"]]
    assert found["outputs"][1] == "Done now."
    assert found["tools"] == ["read_file"]
