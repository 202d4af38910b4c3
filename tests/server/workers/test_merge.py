"""The views of several workers as one."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from modelplex.config.workers import Assignment
from modelplex.server.workers.merge import Workers, merge, merge_metrics

ASSIGNMENT = Assignment(3, "", {"/a": 2, "/b": 1, "/c": 3}, {"a": 2, "b": 1, "c": 3})
WORKERS = Workers(1, ASSIGNMENT, ["unix:/a", "unix:/b"])


def merged(view: str, *views: Any) -> Any:
    """The merged view of workers 1, 2, ..."""
    bodies = {n: None if one is None else json.dumps(one).encode() for n, one in enumerate(views, 1)}
    return json.loads(merge(view, bodies, WORKERS))


def status(number: int, **more: Any) -> dict[str, Any]:
    circuits = [{"model": f"m{number}", "state": "open"}]
    return {
        "status": "ok",
        "uptime_seconds": 10.0 - number,
        "pid": 100 + number,
        "listeners": [f"unix:/{number}"],
        "providers": [{"name": "p", "breakers": circuits}],
        "log_lines_dropped": number,
        "records": {
            "place": "/r",
            "waiting": 1,
            "written": number,
            "put_off": number,
            "dropped": 0,
            "without_bodies": 0,
            "failure": "full" if number == 2 else "",
        },
        "shared": None,
        **more,
    }


def test_status() -> None:
    found = merged("status", status(1), status(2), None)
    assert found["listeners"] == ["unix:/a", "unix:/b"]
    assert (found["uptime_seconds"], found["log_lines_dropped"]) == (9.0, 3)
    assert "pid" not in found
    assert found["records"] == {
        "place": "/r",
        "failure": "full",
        "waiting": 2,
        "written": 3,
        "put_off": 3,
        "dropped": 0,
        "without_bodies": 0,
    }
    assert merged("status", status(1, records=None), None)["records"] is None
    several = [status(number, shared={"node": f"n{number}"}) for number in (1, 2)]
    assert [row.get("shared") for row in merged("status", *several)["workers"]] == [
        {"node": "n1"},
        {"node": "n2"},
    ]
    assert [(one["worker"], one["model"]) for one in found["providers"][0]["breakers"]] == [
        (1, "m1"),
        (2, "m2"),
    ]
    assert found["workers"][1:] == [
        {"worker": 2, "state": "ok", "pid": 102, "uptime_seconds": 8.0, "listeners": ["unix:/2"]},
        {"worker": 3, "state": "no answer"},
    ]


def test_health() -> None:
    found = merged("health", status(1), status(2, tool_servers=[{"name": "git", "state": "ready"}]), None)
    assert found["status"] == "ok"
    assert [one["worker"] for one in found["providers"][0]["breakers"]] == [1, 2]
    assert found["tool_servers"] == [{"worker": 2, "name": "git", "state": "ready"}]
    assert [row["state"] for row in found["workers"]] == ["ok", "ok", "no answer"]


def agents(running: int, *, ledger: Any = None, seen: Any = None) -> dict[str, Any]:
    rows = [{"agent": name, "running": running} for name in ("a", "b", "c", "by token")]
    return {"agents": rows, "others": {"attested": seen}, "ledger": ledger}


def test_each_agent_is_counted_by_its_worker() -> None:
    ledger = {"path": "/x", "waiting": 1, "failures": 2}
    found = merged(
        "agents", agents(1, ledger=ledger), agents(2, ledger=ledger, seen={"reach": "isolated"}), None
    )
    assert found["agents"] == [
        {"agent": "a", "worker": 2, "running": 2},
        {"agent": "b", "worker": 1, "running": 1},
        {"agent": "c", "worker": 3, "state": "no answer"},
        {"agent": "by token", "worker": 1, "running": 1},
    ]
    assert found["others"] == {"attested": {"reach": "isolated"}}
    assert found["ledger"] == {"path": "/x", "waiting": 2, "failures": 4}
    assert merged("agents", agents(1), agents(2), agents(3))["ledger"] is None


def test_tool_servers_config_and_a_view_that_is_not_known() -> None:
    servers = {"enabled": True, "servers": [{"name": "git"}]}
    assert merged("mcp", servers, servers, None) == {
        "enabled": True,
        "servers": [{"worker": 1, "name": "git"}, {"worker": 2, "name": "git"}],
    }
    assert merged("config", {"x": 1}, {"x": 2}) == {"x": 1}
    assert merged("new", 1, None) == {
        "workers": [{"worker": 1, "view": 1}, {"worker": 2, "state": "no answer"}]
    }


METRICS = """\
# HELP requests_total All.
# TYPE requests_total counter
requests_total{a="x y",b="}"} 1.0
# HELP seconds How long.
# TYPE seconds histogram
seconds_bucket{le="1.0"} 1.0
seconds_bucket{le="+Inf"} 2.0
seconds_count 2.0
seconds_sum 3.0
"""
MORE = METRICS + "# HELP only Of one worker.\n# TYPE only gauge\nonly 4.0\n"


def test_metrics_have_the_worker_as_a_label_and_each_family_once() -> None:
    text = merge_metrics({1: METRICS.encode(), 2: MORE.encode(), 3: None}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert text.count("# TYPE requests_total") == 1
    assert [dict(s.labels) for s in families["requests"].samples] == [
        {"worker": "1", "a": "x y", "b": "}"},
        {"worker": "2", "a": "x y", "b": "}"},
    ]
    assert len(families["seconds"].samples) == 8
    assert [(s.labels["worker"], s.value) for s in families["only"].samples] == [("2", 4.0)]
    assert [s.value for s in families["modelplex_worker_up"].samples] == [1, 1, 0]
    # A family's samples stand together.
    order = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(order) == len(set(order))
