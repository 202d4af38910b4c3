"""What is recorded of a change, and that a flood of refused ones is bounded."""

from __future__ import annotations

from typing import Any

from modelplex.core.caller import Caller, Peer
from modelplex.core.errors import BadRequest, PolicyDenied, Unauthorized
from modelplex.dashboard.request import ActNote
from modelplex.records.admin_act import AdminAct
from modelplex.server.internal_access import Admin
from modelplex.server.internal_acts import MINUTE, REFUSED, InternalActs
from modelplex.server.internal_routes import find_route

STOP = find_route("POST", "page/api/stop").route
LOCAL = Caller(listener="tcp:127.0.0.1:1", kind="tcp", client="127.0.0.1", agent="coder")


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[InternalActs, list[AdminAct], Log, Clock]:
    kept, log, clock = list[AdminAct](), Log(), Clock()
    events: Any = log
    return InternalActs(kept.append, events=events, now=clock), kept, log, clock


def one(acts: InternalActs, error: BaseException | None, *, admin: Admin | None = None) -> None:
    note = ActNote(target="agent coder", detail={"stopped": 2}, runs=("run-1",))
    act = acts.begin("mpx-1", STOP, "page/api/stop", LOCAL, note=note)
    act.admin = admin
    act.end(error)


def test_a_change_says_who_what_when_and_from_where() -> None:
    acts, kept, log, _ = made()
    one(acts, None, admin=Admin("token", frozenset({"stop"}), "ops"))
    (act,) = kept
    assert (act.id, act.started, act.act, act.target, act.outcome, act.status) == (
        "mpx-1", 1000.0, "stop", "agent coder", "ok", 200,
    )  # fmt: skip
    assert (act.by, act.admin, act.client, act.listener) == ("token", "ops", "127.0.0.1", "tcp:127.0.0.1:1")
    assert (act.agent, act.detail, act.runs) == ("coder", {"stopped": 2}, ("run-1",))
    assert (act.method, act.path) == ("POST", "/_internal/page/api/stop")
    (line,) = log.lines
    assert line["event"] == "admin act"
    assert {"request_id": "mpx-1", "by": "token", "admin": "ops", "outcome": "ok"}.items() <= line.items()
    assert "pid" not in line


def test_a_process_at_the_socket_is_named_even_where_it_is_root() -> None:
    acts, kept, log, _ = made()
    caller = Caller(listener="unix:/a", kind="admin", peer=Peer(7, 0, 0))
    acts.begin("mpx-1", STOP, "x" * 500, caller, note=ActNote()).end(None)
    assert (kept[0].pid, kept[0].uid, len(kept[0].path)) == (7, 0, 200)
    assert (log.lines[0]["pid"], log.lines[0]["uid"]) == (7, 0)


def test_refused_and_failed_ones_have_their_reason() -> None:
    acts, kept, _, _ = made()
    errors: list[BaseException] = [
        Unauthorized("no"), PolicyDenied("no", code="admin_may_not"), BadRequest("what?"), OSError("x")
    ]  # fmt: skip
    for error in errors:
        one(acts, error)
    assert [(act.outcome, act.status, act.code) for act in kept] == [
        ("refused", 401, "unauthorized"),
        ("refused", 403, "admin_may_not"),
        ("error", 400, "invalid_request_error"),
        ("error", 0, None),
    ]
    assert {act.by for act in kept} == {"nobody"}


def test_a_flood_of_refused_ones_is_counted_and_hides_no_change() -> None:
    acts, kept, log, clock = made()

    def refused() -> None:
        one(acts, Unauthorized("no"))

    for _ in range(REFUSED + 90):
        refused()
    assert len(kept) == len(log.lines) == REFUSED
    one(acts, None)
    assert kept[-1].outcome == "ok"
    clock.now += MINUTE
    refused()
    refused()
    assert [act.omitted for act in kept[-2:]] == [90, 0]
