"""`modelplex export --format inspect`. tests/agents/test_inspect.py reads it back by inspect_ai."""

from __future__ import annotations

import json
from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]


def test_a_conversation_is_a_sample(modelplex: Run) -> None:
    status, out, _ = modelplex("export", "run-1", "--format", "inspect")
    log = json.loads(out)
    assert status == 0
    assert log["eval"]["task"] == "python agent.py"
    assert log["eval"]["tags"] == ["pr=12"]
    sample = log["samples"][0]
    assert sample["metadata"]["calls"][:2] == ["mpx-0001", "mpx-0002"]
    assert [each["role"] for each in sample["input"]] == ["system", "user"]
    assert sample["model_usage"]["p/m-1"]["total_tokens"] == 36


def test_messages_stand_once_in_the_pool(modelplex: Run) -> None:
    sample = json.loads(modelplex("export", "run-1", "--format", "inspect")[1])["samples"][0]
    pool, events = sample["events_data"]["messages"], sample["events"]
    assert [each["role"] for each in pool] == ["system", "user", "assistant", "tool"]
    assert [each["input_refs"] for each in events[:2]] == [[[0, 2]], [[0, 4]]]
    assert events[0]["output"]["choices"][0]["message"]["tool_calls"][0]["arguments"] == {"path": "a.py"}
    assert events[1]["output"]["completion"] == "Done now."
    assert events[1]["retries"] == 1
    assert pool[3]["function"] == "read_file"
