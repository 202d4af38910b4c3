from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.telemetry.signals import BadTelemetry
from modelplex.telemetry.stamp_json import stamp

OURS = {"modelplex.agent.name": "coder"}
STAMP = {"key": "modelplex.agent.name", "value": {"stringValue": "coder"}}


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def stamped(document: object) -> Any:
    return json.loads(stamp(json.dumps(document).encode(), "logs", OURS))


def test_a_resource_is_stamped_and_all_else_is_the_same() -> None:
    entry = {
        "resource": {"attributes": [text("service.name", "claude-code")], "droppedAttributesCount": 3},
        "scopeLogs": [{"scope": {"name": "x"}, "logRecords": [{"body": {"stringValue": "é\u2028"}}]}],
        "schemaUrl": "https://example.com/1",
    }
    found = stamped({"resourceLogs": [entry]})
    assert found["resourceLogs"][0]["resource"]["attributes"] == [text("service.name", "claude-code"), STAMP]
    entry["resource"] = found["resourceLogs"][0]["resource"]
    assert found == {"resourceLogs": [entry]}


def test_forged_attributes_are_taken_out() -> None:
    theirs = [text("modelplex.agent.name", "admin"), text("service.name", "modelplex"), text("a", "1")]
    found = stamped({"resourceLogs": [{"resource": {"attributes": theirs}}]})
    assert found["resourceLogs"][0]["resource"]["attributes"] == [text("a", "1"), STAMP]


def test_members_by_other_spellings_do_not_pass() -> None:
    """A reader of protobuf's JSON takes resource_logs too."""
    forged = {"resource_logs": [{"resource": {"attributes": [text("modelplex.agent.name", "admin")]}}]}
    assert stamped(forged) == {}
    inside: dict[str, Any] = {"resourceLogs": [{"scope_logs": [], "Resource": {}, "scopeLogs": []}]}
    assert list(stamped(inside)["resourceLogs"][0]) == ["resource", "scopeLogs"]
    other: dict[str, Any] = {"resourceSpans": [{}]}
    assert stamped(other) == {}


def test_a_member_that_is_given_twice_is_written_once() -> None:
    body = (
        b'{"resourceLogs":[{"resource":{"attributes":[]},"resource":{"attributes":[{"key":"modelplex.x"}]}}]}'
    )
    assert stamp(body, "logs", OURS).count(b"modelplex.") == 1


def test_an_entry_without_a_resource_gets_one() -> None:
    bare: dict[str, Any] = {"resourceLogs": [{}]}
    assert stamped(bare) == {"resourceLogs": [{"resource": {"attributes": [STAMP]}}]}
    assert stamped({}) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"resourceLogs":1}',
        b'{"resourceLogs":[1]}',
        b'{"resourceLogs":[{"resource":[]}]}',
        b'{"resourceLogs":[{"resource":{"attributes":[{"value":{}}]}}]}',
        b'{"resourceLogs":[{"scopeLogs":[}]}',
        b"\xff",
        b'{"resourceLogs":[{"scopeLogs":' + b"[" * 100_000,
    ],
)
def test_what_is_no_otlp_is_refused(body: bytes) -> None:
    with pytest.raises(BadTelemetry, match="no OTLP in JSON"):
        stamp(body, "logs", OURS)
