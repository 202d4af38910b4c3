"""Records what admins change through /_internal/, and what they were refused: in the log, and in
the record store, with the run where it concerns one.

Whoever reaches the listener can send requests that are refused: of these some a minute are
recorded, and the others counted.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, time
from typing import Final

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError, PolicyDenied, Unauthorized
from modelplex.dashboard.request import ActNote
from modelplex.records.admin_act import AdminAct
from modelplex.records.log import EventLog
from modelplex.server.internal_access import Admin
from modelplex.server.internal_routes import InternalRoute

REFUSED: Final = 10
"""In a minute. A day of them is 15,000 rows."""
MINUTE: Final = 60.0
MAX_NAME: Final = 200
"""Characters of a path or a target."""


class InternalActs:
    """`record` takes what is stored; `now` returns Unix time."""

    def __init__(
        self, record: Callable[[AdminAct], None], *, events: EventLog, now: Callable[[], float] = time
    ) -> None:
        self._record = record
        self._events = events
        self._now = now
        self._minute = 0.0
        self._refused = 0
        self._omitted = 0

    def __repr__(self) -> str:
        return f"<InternalActs {self._omitted} omitted>"

    def begin(self, id: str, route: InternalRoute, path: str, caller: Caller, *, note: ActNote) -> RunningAct:
        """One request of this route. `note` is filled by what serves it."""
        peer = caller.peer
        act = AdminAct(
            id=id,
            started=self._now(),
            act=route.act,
            listener=caller.listener,
            client=caller.client,
            pid=peer.pid if peer is not None else 0,
            uid=peer.uid if peer is not None else None,
            agent=caller.agent,
            method=route.method,
            path=f"/_internal/{path}"[:MAX_NAME],
        )
        return RunningAct(act, self, note)

    def ended(self, act: AdminAct) -> None:
        if act.outcome == "refused":
            if not self._has_room():
                self._omitted += 1
                return
            act = msgspec.structs.replace(act, omitted=self._omitted)
            self._omitted = 0
        self._events.warning("admin act", **_fields(act))
        self._record(act)

    def _has_room(self) -> bool:
        now = self._now()
        if now - self._minute >= MINUTE or now < self._minute:
            self._minute, self._refused = now, 0
        self._refused += 1
        return self._refused <= REFUSED


class RunningAct:
    """A request whose outcome is not known yet."""

    def __init__(self, act: AdminAct, acts: InternalActs, note: ActNote) -> None:
        self._act = act
        self._acts = acts
        self._started = perf_counter()
        self._note = note
        self.admin: Admin | None = None

    def __repr__(self) -> str:
        return f"<RunningAct {self._act.act} {self._note.target!r}>"

    def end(self, error: BaseException | None) -> None:
        """`error` is what ended the request; None where it was done."""
        note, admin, act = self._note, self.admin, self._act
        outcome, status, code, sentence = "ok", 200, None, None
        if isinstance(error, ModelplexError):
            outcome = "refused" if isinstance(error, Unauthorized | PolicyDenied) else "error"
            status, code, sentence = error.status, error.code or error.type, error.message
        elif error is not None:
            # The client went away, or a fault that the log has: what was done is not known.
            outcome, status, sentence = "error", 0, type(error).__name__
        self._acts.ended(
            msgspec.structs.replace(
                act,
                target=note.target[:MAX_NAME],
                detail=note.detail,
                runs=note.runs,
                by=admin.by if admin is not None else "nobody",
                admin=admin.name if admin is not None else "",
                outcome=outcome,
                status=status,
                code=code,
                error=sentence,
                seconds=perf_counter() - self._started,
            )
        )


def _fields(act: AdminAct) -> dict[str, object]:
    """For the log: those that say something."""
    process = {} if act.uid is None else {"pid": act.pid, "uid": act.uid}
    others = {
        "admin": act.admin,
        "client": act.client,
        "agent": act.agent,
        "code": act.code,
        "error": act.error,
        "detail": act.detail,
        "omitted": act.omitted,
    }
    return {
        "request_id": act.id,
        "act": act.act,
        "target": act.target,
        "outcome": act.outcome,
        "by": act.by,
        "listener": act.listener,
        **process,
        **{name: value for name, value in others.items() if value},
    }
