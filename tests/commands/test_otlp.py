"""`modelplex export --format otlp`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., tuple[int, str, str]]


def spans(modelplex: Run) -> list[dict[str, Any]]:
    status, out, _ = modelplex("export", "run-1", "--format", "otlp")
    assert status == 0
    found: list[dict[str, Any]] = json.loads(out)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return found


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_a_run_is_one_trace(modelplex: Run) -> None:
    root, *all_spans = spans(modelplex)
    attempts = [each for each in all_spans if each["name"].startswith("attempt ")]
    calls = [each for each in all_spans if each not in attempts]
    ids = {each["spanId"] for each in calls}
    assert attempts
    assert {each["parentSpanId"] for each in attempts} <= ids
    assert attributes(root)["gen_ai.agent.name"] == "coder"
    assert attributes(root)["modelplex.tag.pr"] == "12"
    assert {each["traceId"] for each in calls} == {root["traceId"]}
    assert {each["parentSpanId"] for each in calls} == {root["spanId"]}
    assert len({each["spanId"] for each in [root, *all_spans]}) == 6 + len(attempts)
    assert len(calls) == 5
    for span in [root, *all_spans]:
        assert len(span["traceId"]) == 32
        assert len(span["spanId"]) == 16
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= int(root["endTimeUnixNano"])


def test_a_call_has_the_attributes_of_the_conventions(modelplex: Run) -> None:
    second = [each for each in spans(modelplex) if each["name"] == "chat m"][1]
    found = attributes(second)
    assert second["name"] == "chat m"
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.usage.input_tokens"] == "15"
    assert found["gen_ai.provider.name"] == "p"
    assert found["http.request.header.user-agent"] == {"values": [{"stringValue": "agent/1"}]}
    assert "http.request.header.x-api-key" not in found  # its value is not kept
    messages = json.loads(found["gen_ai.input.messages"])
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "tool"]
    assert messages[2]["parts"][0]["type"] == "tool_call"
    (output,) = json.loads(found["gen_ai.output.messages"])
    assert output["parts"] == [{"type": "text", "content": "Done now."}]
    assert "status" not in second
    assert attributes(second["links"][0]) == {"modelplex.relation": "turn"}


def test_a_failed_call_and_a_tool_call(modelplex: Run) -> None:
    found = {
        request: each
        for each in spans(modelplex)
        if (request := attributes(each).get("modelplex.request_id")) is not None
    }
    assert found["mpx-0003"]["status"] == {"code": 2, "message": "Policy: no."}
    assert attributes(found["mpx-0003"])["error.type"] == "policy"
    assert found["mpx-t0005"]["name"] == "tools/call git_status"
