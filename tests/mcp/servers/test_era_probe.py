import pytest

from modelplex.mcp.constants import Json, McpReply
from modelplex.mcp.servers.era_probe import (
    Incompatible,
    Legacy,
    Modern,
    ModernRetry,
    ProbeResult,
    interpret_probe,
)

RESULTS: list[tuple[Json, str]] = [
    ({"supportedVersions": ["2026-07-28", "2025-11-25"]}, "modern"),
    ({"supportedVersions": ["2025-11-25"]}, "legacy"),
    ({"supportedVersions": ["2031-01-01"]}, "legacy"),
    ({"supportedVersions": "2026-07-28"}, "legacy"),
    ({"supportedVersions": [None, {}]}, "legacy"),
    ({}, "legacy"),
]


@pytest.mark.parametrize(("result", "expected"), RESULTS)
def test_a_result_is_believed_only_where_it_names_a_modern_version(result: Json, expected: str) -> None:
    judged = interpret_probe(McpReply(result=result), version="2026-07-28")
    assert judged == (Modern("2026-07-28", result) if expected == "modern" else Legacy())


@pytest.mark.parametrize(
    ("code", "data", "expected"),
    [
        (-32022, {"supported": ["2026-07-28"]}, ModernRetry("2026-07-28")),
        (-32022, {"supported": ["2031-01-01", "2025-06-18"]}, Legacy()),
        (-32022, {"supported": []}, Legacy()),
        (-32022, None, Legacy()),
        (-32020, None, ModernRetry("2026-07-28")),
        (-32021, {"requiredCapabilities": {"sampling": {}}}, ModernRetry("2026-07-28", declare=True)),
        (-32601, None, Legacy()),
        (-32602, "text", Legacy()),
        (-32000, None, Legacy()),
        (1, [], Legacy()),
    ],
)
def test_an_error_is_modern_evidence_only_by_the_codes_that_the_revision_defines(
    code: int, data: object, expected: ProbeResult
) -> None:
    error: Json = {"code": code, "message": "no", "data": data}
    assert interpret_probe(McpReply(error=error), version="2026-07-28") == expected


def test_a_server_of_another_future_is_told_apart() -> None:
    error: Json = {"code": -32022, "message": "no", "data": {"supported": ["2031-01-01"]}}
    judged = interpret_probe(McpReply(error=error), version="2026-07-28")
    assert isinstance(judged, Incompatible)
    assert "2031-01-01" in judged.sentence
