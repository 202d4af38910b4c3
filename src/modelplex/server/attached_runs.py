"""The runs of `modelplex run` that a gateway serves: each has a socket of its own, which the run
has made on the host, and by which its calls are known.

Its calls count for its agent and its budget, and are recorded as of this run. The run is told what
fails and what is silent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from time import perf_counter, time
from typing import Final

import msgspec

import modelplex
from modelplex.core.caller import CallerRun
from modelplex.core.errors import UnknownModel
from modelplex.limits.agent_limits import AgentLimits
from modelplex.limits.agent_usage import NOTHING, AgentUsage
from modelplex.limits.run_budgets import RunBudget
from modelplex.records.record import Record
from modelplex.records.run_facts import RunFacts, SandboxFacts
from modelplex.records.tool_call import ToolRecord
from modelplex.server.address import ListenError, Unix
from modelplex.server.app import App
from modelplex.server.callers import CallerResolver
from modelplex.server.connection import Connection
from modelplex.server.listeners import BoundSocket, Listening, serve
from modelplex.server.record_store import RecordStore
from modelplex.server.run_messages import MAX_NOTICE, RunNotice, RunRequest
from modelplex.server.telemetry import Telemetry

SILENT_S: Final = 15.0
"""Seconds without output after which the run is told of a call, and again after as many times two.
"""
WATCH_S: Final = 2.5
"""Between two looks at the calls in flight."""
REPEAT_S: Final = 60.0
"""Seconds within which a failure is told once."""
CLOSING_S: Final = 2.0
"""For calls of a run that has ended to be noticed as such."""
POLL_S: Final = 0.01


class RunParts(msgspec.Struct, frozen=True):
    """What runs share with the rest of the process. `listening` is called once it listens;
    `look_at_config` notes a changed config, before the run that may have changed it is forgotten.
    """

    app: App
    callers: CallerResolver
    limits: AgentLimits
    store: RecordStore
    telemetry: Telemetry
    listening: Callable[[], Listening]
    look_at_config: Callable[[], None]


class AttachedRun(msgspec.Struct):
    """`notify` tells the run something. `told` has the time of each failure that it was told.
    `sandbox` is what was measured inside.
    """

    request: RunRequest
    bound: BoundSocket
    notify: Callable[[RunNotice], None]
    told: dict[tuple[str, str], float] = {}
    sandbox: SandboxFacts | None = None

    @property
    def id(self) -> str:
        return self.request.run.id


class AttachedRuns:
    """Also a sink, which gets each Record."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._runs: dict[str, AttachedRun] = {}
        self._watching: asyncio.Task[None] | None = None
        self._silent: dict[object, float] = {}
        """Of each call in flight that a run was told of: after how many seconds the next time."""

    def __repr__(self) -> str:
        return f"<AttachedRuns {len(self._runs)}>"

    async def attach(
        self, request: RunRequest, listener: socket.socket, *, notify: Callable[[RunNotice], None]
    ) -> AttachedRun:
        """Serve this socket, which listens. Raises ListenError with the reason why not."""
        parts, run = self._parts, request.run
        if run.id in self._runs:
            raise ListenError(f"a run {run.id} is attached already.")
        if not parts.callers.knows(request.agent):
            raise ListenError(f'the config has no agent "{request.agent}" any more.')
        budget = RunBudget(request.usd, request.tokens)
        caller = CallerRun(run.id, priced_only=budget.usd is not None, seed=request.seed)
        bound = BoundSocket(Unix(request.path, agent=request.agent, run=caller), listener)
        if budget != RunBudget():
            parts.limits.runs.open(run.id, agent=request.agent, budget=budget)
        parts.store.open_run(run, is_recorded=request.is_recorded)
        if request.is_recorded:
            parts.telemetry.open_run(run)
        listening = parts.listening()
        bound.server = await serve(
            bound, parts.app, listening=listening, loop=asyncio.get_running_loop(), callers=parts.callers
        )
        listening.sockets.append(bound)
        found = self._runs[run.id] = AttachedRun(request, bound, notify)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return found

    def stop(self, id: str) -> bool:
        """Refuse what this run asks from now on, and tell it. False where it is not attached."""
        run = self._runs.get(id)
        if run is None:
            return False
        self._parts.callers.stop_run(id)
        run.notify(RunNotice("the run", "the operator stopped it: its requests are refused from now on"))
        return True

    def measured(self, run: AttachedRun, sandbox: SandboxFacts) -> None:
        """Record what holds of the run, before its program starts."""
        run.sandbox = sandbox
        self._record_facts(run, sandbox)

    def config_changed(self) -> None:
        """Record what holds of the runs from now on."""
        for run in self._runs.values():
            if run.sandbox is not None:
                self._record_facts(run, run.sandbox)

    def _record_facts(self, run: AttachedRun, sandbox: SandboxFacts) -> None:
        policy = self._parts.callers.policies.get(("unix", run.request.agent))
        if policy is None:  # the config has no such agent any more, and its calls are refused
            return
        caller = policy.template
        facts = RunFacts(
            id=f"mpx-{os.urandom(4).hex()}-facts",
            started=time(),
            run=run.id,
            sandbox=sandbox,
            agent=run.request.agent,
            listener=run.bound.address.name,
            sealed=caller.sealed,
            allowed=tuple(sorted(caller.allowed)),
            models=caller.models,
            tools=caller.tools,
            version=modelplex.__version__,
            config=self._parts.store.config.digest,
        )
        self._parts.store.record_facts(facts)

    async def detach(self, run: AttachedRun) -> AgentUsage:
        """Close its socket and its connections, and write its records. What was spent of its
        budget.
        """
        listening = self._parts.listening()
        if run.bound in listening.sockets:
            listening.sockets.remove(run.bound)
        run.bound.close()
        for connection in self._connections(run):
            connection.transport.abort()
        self._parts.look_at_config()
        deadline = perf_counter() + CLOSING_S
        # Nothing tells of the last call of one listener.
        while self._is_served(run) and perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        del self._runs[run.id]
        self._parts.callers.forget_run(run.id)
        if not self._runs and self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self._parts.telemetry.end_run(run.id)
        await self._parts.store.end_run(run.id)
        return self._parts.limits.runs.close(run.id) or NOTHING

    @property
    def may_write_config(self) -> bool:
        """Whether a program may write to the config's folder now."""
        return any(run.request.may_write_config for run in self._runs.values())

    def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def _connections(self, run: AttachedRun) -> list[Connection]:
        name = run.bound.address.name
        return [each for each in self._parts.listening().traffic.open if each.state["listener"] == name]

    def _is_served(self, run: AttachedRun) -> bool:
        calls = self._parts.app.running.values()
        mine = any(
            call is not None and call.caller.run is not None and call.caller.run.id == run.id
            for call in calls
        )
        return mine or bool(self._connections(run))

    # --- what a run is told ---

    def record(self, record: Record | ToolRecord, /) -> None:
        """A failure that the program's owner can do something about."""
        run = self._runs.get(record.run)
        if run is None or not isinstance(record, Record) or record.error is None:
            return
        if record.outcome == "client_closed" or (
            record.blame == "client" and record.code != UnknownModel.default_code
        ):
            return
        what, why = record.provider or record.requested_model or "a call", record.error
        now = perf_counter()
        if now - run.told.get((what, why), -REPEAT_S) >= REPEAT_S:
            run.told[what, why] = now
            run.notify(RunNotice(what, why[:MAX_NOTICE]))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self.tell_silent(perf_counter())

    def tell_silent(self, now: float) -> None:
        """Tell of calls that have run for a while without output. `now` is of the calls' clock."""
        before, self._silent = self._silent, {}
        for response, call in self._parts.app.running.items():
            run = self._runs.get(call.caller.run.id) if call is not None and call.caller.run else None
            if call is None or run is None or response.first is not None or not call.request.model:
                continue
            due, waited = before.get(response, SILENT_S), now - call.started
            self._silent[response] = due
            if waited < due:
                continue
            self._silent[response] = due * 2
            provider = call.attempt.provider if call.attempt is not None else ""
            failed = [each.message for each in call.attempts if each.message]
            why = f"no output for {waited:.0f} s" + (f"; an attempt failed: {failed[-1]}" if failed else "")
            run.notify(
                RunNotice(f"{call.request.model}{f' of {provider}' if provider else ''}", why[:MAX_NOTICE])
            )


def same_user(peer: socket.socket) -> bool:
    """Whether the process at the other end is of this process's user, or root."""
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in {os.geteuid(), 0}
