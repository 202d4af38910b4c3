"""The record of a tool call, and how log and metrics show it."""

import json
from pathlib import Path

from modelplex.records.log import Log, Secrets
from modelplex.records.log_fields import json_call, level_of
from modelplex.records.log_text import call_line
from modelplex.records.metrics import SERIES_LIMIT, Metrics
from modelplex.records.tool_call import ToolOutcome, ToolRecord, hash_arguments


def call(
    *,
    tool: str = "git__log",
    definition: str = "ab",
    outcome: ToolOutcome = "ok",
    reason: str = "",
    error: str | None = None,
    method: str = "tools/call",
) -> ToolRecord:
    return ToolRecord(
        id="mpx-1",
        started=1000.0,
        listener="unix:/run/a.socket",
        client="",
        agent="coder",
        era="modern",
        server="git",
        tool=tool,
        method=method,
        arguments="cd",
        definition=definition,
        rule="default",
        outcome=outcome,
        reason=reason,
        error=error,
        seconds=0.25,
        bytes_in=10,
        bytes_out=20,
    )


def test_equal_arguments_have_one_hash_whatever_their_order() -> None:
    assert hash_arguments({"a": 1, "b": [2]}) == hash_arguments({"b": [2], "a": 1})
    assert hash_arguments({"a": 1})[0] != hash_arguments({"a": 2})[0]


def test_arguments_that_have_no_utf8_form_are_counted_without_a_hash() -> None:
    assert hash_arguments({"a": "\ud800"}) == ("", b"")


def test_a_line_says_who_asked_for_what_and_what_decided() -> None:
    told = json.loads(json_call(call(), max_body=100, mask=bytes))
    assert told["event"] == "tool"
    assert (told["agent"], told["server"], told["tool"]) == ("coder", "git", "git__log")
    assert (told["decision"], told["rule"]) == ("allow", "default")
    assert told["arguments_sha256"] == "cd"
    assert told["definition_sha256"] == "ab"
    assert told["ms"] == {"total": 250.0}
    assert told["bytes"] == {"in": 10, "out": 20}


def test_a_line_for_a_person_escapes_what_a_client_made_up() -> None:
    told = call_line(call(tool="git__\x1b[2J"), colour=False, max_body=100, mask=bytes).decode()
    assert "\x1b" not in told
    assert "git" in told


def test_a_refusal_is_a_warning_and_a_tool_that_failed_is_none() -> None:
    assert level_of(call(outcome="refused")) == "warning"
    assert level_of(call(outcome="tool_error")) == "info"
    assert level_of(call(outcome="error")) == "error"


def test_the_log_writes_tool_calls_beside_others_and_hides_secrets(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(file=path, log_format="json", secrets=Secrets(["sk-very-secret"]))
    log.record(call(outcome="error", error="the key sk-very-secret is wrong"))
    assert log.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["error"] == "the key ******** is wrong"


def test_metrics_count_calls_by_tool_and_outcome() -> None:
    metrics = Metrics()
    metrics.record(call())
    metrics.record(call(outcome="refused", reason="limit"))
    text = metrics.render().decode()
    row = 'modelplex_tool_calls_total{method="tools/call",outcome="%s",reason="%s",server="git",tool="git__log"} 1.0'
    assert row % ("ok", "") in text
    assert row % ("refused", "limit") in text
    assert (
        'modelplex_tool_call_duration_seconds_count{method="tools/call",server="git",tool="git__log"} 2.0'
        in text
    )


def test_names_that_clients_make_up_do_not_fill_the_metrics() -> None:
    metrics = Metrics()
    for number in range(SERIES_LIMIT + 50):
        metrics.record(call(tool=f"made-up-{number}", definition=""))
        metrics.record(call(tool=f"file:///{number}", definition="x", method="resources/read"))
        metrics.record(call(tool=f"listed-{number}"))
    text = metrics.render().decode()
    assert "made-up" not in text
    assert "file:///" not in text
    assert 'tool="_OTHER"' in text
    assert text.count("modelplex_tool_response_bytes_total{") <= SERIES_LIMIT + 1
