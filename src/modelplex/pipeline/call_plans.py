"""What the general path decided about one kind of call, kept for the next of its kind.

The law. A plan is the result of a call that the general path (`gateway.py`) served: the answer came
whole from the first candidate, and both bodies passed unchanged. Whatever the general path reads to
get there is one of these:

- the request's head and what the config allows its caller: each `Requester` has plans of its own.
  A head that no other request has, as one with a client's trace, has none;
- whether a trace goes to the provider: then there is no plan, since each attempt has its own span;
- which members the body has, and the values of those in `READ`: the key of a plan (`kind_of`);
- other values, of which it only looks for marks: a body with one of `marks` has no plan;
- what the policy judges, and the bounds of a body: both are asked for each call (`CallPlan.sent`);
- what `PlanBasis` names: a change of any of it ends all plans;
- the config: a reload makes another gateway, which has no plans yet;
- limits, budgets of agents, teams and runs, turns, memory, open circuits: asked for each call,
  before it is sent.

A call that turns out to be of another kind goes on in the general path, wherever it is
(`server/planned_call.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.request import Attempt, Endpoint, RawRequest
from modelplex.dialects.core.bounds import SHORT, check_lists, check_values
from modelplex.dialects.core.search import holds_any
from modelplex.dialects.dialect import Dialect, ObservedResponse
from modelplex.dialects.raw_request import PRICED, decode_fields, may_repeat
from modelplex.http_client import UpstreamConnection
from modelplex.pipeline.offload import LARGE_FOR_C, is_heavy
from modelplex.pipeline.upstream import PreparedPost, UpstreamResponse
from modelplex.policy.judge import PolicyTable, judge
from modelplex.policy.verdict import ALLOW, Facts
from modelplex.routing.aliases import Directory
from modelplex.routing.circuits import CircuitName

READ = ("model", "stream", "stream_options", "n", "store", *PRICED)
"""Members of a body whose values decide about it or about its price. Of all others the general path
reads the names, and looks for marks in the values.
"""
MOST_READ = 512
"""Bytes of those values, of a request that has a plan."""
PLANS = 16
"""Plans of one requester: an agent has one for each model, and few sets of parameters."""
REQUESTERS = 256
"""When there are more, all are forgotten, which costs each caller one call in the general path."""
Fields = Mapping[str, msgspec.Raw]
Kind = tuple[str | bytes, ...]
PlanBasis = tuple[Directory, int, int, int, int]
"""What ends all plans by its change: the lists of models, and the versions of the keys that are
preferred, of the parameters that models refuse and of the endpoints that providers lack, and the
number of providers that ever made opaque state.
"""


class Opener(Protocol):
    """`Upstream.open`."""

    def __call__(
        self, raw_request: RawRequest, attempt: Attempt, body: bytes, *, trace: bytes = b""
    ) -> Awaitable[UpstreamResponse]: ...


class CallPlan(msgspec.Struct, frozen=True, eq=False):
    """The decisions about one kind of call. `model` is its name as the client writes it.

    post        its request to the provider, without the body
    observe     reads a response
    marks       what a body of this kind does not hold
    lists       the largest number of entries of lists at the top level of a body
    conditions  members on which its price depends
    table, facts  of the sealed policy, which judges each body; None where it does not apply
    switches    what the policy puts before the first member of the body
    """

    endpoint: Endpoint
    dialect: str
    model: str
    attempt: Attempt
    circuits: tuple[CircuitName, ...]
    post: PreparedPost
    observe: Callable[[bytes], ObservedResponse]
    marks: tuple[bytes, ...]
    lists: Mapping[str, int]
    conditions: dict[str, str]
    table: PolicyTable | None
    facts: Facts | None
    switches: bytes

    def sent(self, body: bytes, fields: Fields) -> bytes | None:
        """The body that is sent; None for one that is not of this kind after all. Raises BadRequest
        for one that exceeds a bound.
        """
        if len(body) > SHORT:
            check_values(body)
            check_lists(fields, body, limits=self.lists)
        if holds_any(body, self.marks):
            return None
        if self.table is None or self.facts is None:
            if may_repeat(body, fields):
                return None
        elif is_heavy(body) or judge(body, table=self.table, facts=self.facts, fields=fields) is not ALLOW:
            return None
        return with_switches(body, self.switches) if self.switches else body


class Requester:
    """Equal heads of one caller, as far as the config distinguishes callers."""

    __slots__ = ("basis", "of", "plans")

    def __init__(self, of: CallPlans, basis: PlanBasis) -> None:
        self.of = of
        self.basis = basis
        self.plans: dict[Kind, CallPlan] = {}

    def __repr__(self) -> str:
        return f"<Requester {len(self.plans)} plans>"


class CallPlans:
    """The plans of one gateway. `basis` returns what they depend on now."""

    def __init__(self, basis: Callable[[], PlanBasis]) -> None:
        self._basis = basis
        self._requesters: dict[tuple[object, ...], Requester] = {}

    def __repr__(self) -> str:
        return f"<CallPlans of {len(self._requesters)} requesters>"

    def requester(self, head: object, caller: Caller) -> Requester:
        """Heads that are equal for a plan are one object."""
        who = (
            head,
            caller.owner,
            caller.sealed,
            caller.allowed,
            caller.bounds,
            caller.models,
            caller.priced_only,
            caller.seed,
        )
        found = self._requesters.get(who)
        if found is None:
            if len(self._requesters) >= REQUESTERS:
                self._requesters.clear()
            found = self._requesters[who] = Requester(self, self._basis())
        return found

    def find(self, requester: Requester, body: bytes) -> tuple[CallPlan, bytes] | None:
        """The plan for a request with this body, and the body that is sent. Raises what reading the
        body raises, which is for the general path to explain.
        """
        basis = self._basis()
        if requester.basis != basis:
            requester.plans.clear()
            requester.basis = basis
        if not requester.plans or requester.of is not self or len(body) > LARGE_FOR_C:
            return None
        fields = decode_fields(body)
        plan = requester.plans.get(kind_of(fields))
        if plan is None or (sent := plan.sent(body, fields)) is None:
            return None
        return plan, sent

    def remember(self, requester: Requester, request: RawRequest, plan: CallPlan) -> None:
        kind = kind_of(request.fields)
        if requester.of is not self:
            return
        if sum(len(value) for value in kind if isinstance(value, bytes)) > MOST_READ:
            return
        basis = self._basis()
        if requester.basis != basis or len(requester.plans) >= PLANS:
            requester.plans.clear()
            requester.basis = basis
        requester.plans[kind] = plan


class BegunPost(msgspec.Struct):
    """A request that a plan has sent. The general path goes on with its connection, once."""

    plan: CallPlan
    body: bytes
    connection: UpstreamConnection | None
    started: float

    def take(self, attempt: Attempt, body: bytes) -> UpstreamConnection | None:
        """The connection, where the general path would have sent the same."""
        connection = self.connection
        if connection is None or attempt != self.plan.attempt or body != self.body:
            return None
        self.connection = None
        return connection

    def opener(self, connection: UpstreamConnection | None, otherwise: Opener) -> Opener:
        """What opens the response: on the connection that `take` returned, if it returned one."""
        return otherwise if connection is None else partial(self.plan.post.upstream.open, begun=connection)

    def close(self) -> None:
        """Idempotent."""
        if self.connection is not None:
            self.connection.abandon()
            self.connection = None


def kind_of(fields: Fields) -> Kind:
    """The names of the members in their order, and the values of READ."""
    kind: list[str | bytes] = [*fields]
    for name in READ:
        if name in fields:
            kind.append(bytes(fields[name]))  # noqa: PERF401 - this is called for each request
    return tuple(kind)


def marks_of(dialect: Dialect, attempt: Attempt, *, may_pin: bool) -> tuple[bytes, ...] | None:
    """What the general path looks for in a body that passes; None where it reads more. `may_pin`:
    opaque state decides about the candidate.
    """
    if (
        dialect.passthrough is None
        or dialect.storage is not None
        or dialect.reframe is not None
        or dialect.answer_locally is not None
        or ((dialect.amend or dialect.needs_hub) is not None and dialect.amend_marks is None)
    ):
        return None
    amended = () if dialect.amend_marks is None else dialect.amend_marks(attempt.quirks)
    family = dialect.family
    pinned = (*family.opaque_members, *family.stored_members) if may_pin else ()
    return (family.envelope_mark, *amended, *pinned)


def with_switches(body: bytes, switches: bytes) -> bytes:
    return b"".join((switches, memoryview(body)[body.index(b"{") + 1 :]))


def switches_between(body: bytes, sent: bytes) -> bytes | None:
    """What was put before the first member of `body`; None where another change was made."""
    if sent is body:
        return b""
    switches = sent[: 1 + len(sent) - len(body) + body.index(b"{")]
    return switches if switches and with_switches(body, switches) == sent else None
