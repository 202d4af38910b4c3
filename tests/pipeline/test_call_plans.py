"""Plans: what they are kept by, and what they depend on. tests/test_reuse_ends.py changes each
thing that ends one; tests/server/test_planned_call.py has what a planned call does.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from modelplex.core.caller import Caller
from modelplex.core.request import Quirks, RawRequest
from modelplex.dialects.raw_request import decode_fields, read_request
from modelplex.dialects.registry import DIALECTS
from modelplex.pipeline.call_plans import (
    MOST_READ,
    PLANS,
    READ,
    REQUESTERS,
    CallPlan,
    CallPlans,
    PlanBasis,
    kind_of,
    marks_of,
    switches_between,
    with_switches,
)
from modelplex.routing.aliases import Directory

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
CALLER = Caller(listener="tcp:1", kind="tcp")


def compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def request(**members: Any) -> RawRequest:
    return read_request(compact(BODY | members), endpoint="chat/completions", dialect="openai_chat")


def plan(*, marks: tuple[bytes, ...] = (), switches: bytes = b"") -> CallPlan:
    return CallPlan(
        endpoint="chat/completions",
        dialect="openai_chat",
        model="m",
        attempt=cast("Any", None),
        circuits=(),
        post=cast("Any", None),
        observe=cast("Any", None),
        marks=marks,
        lists={"messages": 3},
        conditions={},
        table=None,
        facts=None,
        switches=switches,
    )


class Basis:
    def __init__(self) -> None:
        self.now: list[Any] = [Directory(()), 0, 0, 0, 0]

    def __call__(self) -> PlanBasis:
        return cast("PlanBasis", tuple(self.now))


@pytest.fixture
def basis() -> Basis:
    return Basis()


@pytest.fixture
def plans(basis: Basis) -> CallPlans:
    return CallPlans(basis)


def kind(**members: Any) -> tuple[str | bytes, ...]:
    return kind_of(decode_fields(compact(BODY | members)))


def test_a_kind_is_the_members_and_the_values_that_are_read() -> None:
    assert kind() == ("model", "messages", b'"m"')
    assert kind(temperature=0.1) == kind(temperature=0.9)
    assert kind(messages=[]) == kind()
    assert kind(temperature=0.1) != kind()
    values: dict[str, Any] = {name: name for name in READ}
    for name in READ:
        assert kind(**values) != kind(**values | {name: "other"}), name
    # No value can stand for a name, or for another member's value.
    assert kind(n="x", store="y") != kind(n="y", store="x")
    assert kind(n=1) != kind(speed=1)


def test_a_plan_is_for_bodies_of_its_kind_of_one_requester(plans: CallPlans) -> None:
    mine, head = plan(), object()
    requester = plans.requester(head, CALLER)
    plans.remember(requester, request(), mine)
    body = compact(BODY | {"messages": [{"role": "user", "content": "another"}]})
    assert plans.find(requester, body) == (mine, body)
    assert plans.find(requester, compact(BODY | {"seed": 1})) is None
    assert plans.find(requester, compact(BODY | {"model": "n"})) is None
    assert plans.requester(head, CALLER) is requester
    others = [
        plans.requester(object(), CALLER),
        *(
            plans.requester(head, msgspec.structs.replace(CALLER, **different))
            for different in (
                {"agent": "a"},
                {"listener": "tcp:2"},
                {"sealed": True},
                {"allowed": frozenset({"store"})},
                {"models": ("m",)},
                {"priced_only": True},
            )
        ),
    ]
    assert all(plans.find(other, body) is None for other in others)


def test_a_body_that_is_not_of_its_kind_after_all_has_no_plan(plans: CallPlans) -> None:
    requester = plans.requester(object(), CALLER)
    plans.remember(requester, request(), plan(marks=(b"SEALED", b'"signature"')))
    plain = compact(BODY)
    assert plans.find(requester, plain) is not None
    assert plans.find(requester, plain.replace(b"Hi", b"a SEALED box")) is None
    assert plans.find(requester, plain.replace(b'"role"', b'"signature":"","role"')) is None
    assert plans.find(requester, plain.replace(b'"m"', b'"x","model":"m"')) is None  # a member twice
    assert plans.find(requester, plain + b"      ") is None
    many = plain.replace(b'"Hi"}', b'"Hi"}' + b',{"role":"user","content":"%b"}' % (b"x" * 2000) * 3)
    with pytest.raises(Exception, match="messages"):
        plans.find(requester, many)
    with pytest.raises(msgspec.DecodeError):
        plans.find(requester, plain[:-1])


@pytest.mark.parametrize("at", range(5))
def test_a_change_of_what_plans_depend_on_ends_all(at: int, plans: CallPlans, basis: Basis) -> None:
    requester, body = plans.requester(object(), CALLER), compact(BODY)
    plans.remember(requester, request(), plan())
    assert plans.find(requester, body) is not None
    before, basis.now[at] = basis.now[at], 1
    assert plans.find(requester, body) is None
    basis.now[at] = before
    assert plans.find(requester, body) is None


def test_plans_of_another_gateway_are_not_used(plans: CallPlans, basis: Basis) -> None:
    requester, other = plans.requester(object(), CALLER), CallPlans(basis)
    plans.remember(requester, request(), plan())
    assert other.find(requester, compact(BODY)) is None
    other.remember(requester, request(seed=1), plan())
    assert plans.find(requester, compact(BODY | {"seed": 1})) is None


def test_what_clients_invent_takes_no_memory(plans: CallPlans) -> None:
    head = object()
    requester = plans.requester(head, CALLER)
    for number in range(3 * PLANS):
        plans.remember(requester, request(seed=1, **{f"x{number}": 1}), plan())
        assert len(requester.plans) <= PLANS
    requester.plans.clear()
    plans.remember(requester, request(stream_options={"x": "y" * MOST_READ}), plan())
    assert not requester.plans
    for number in range(REQUESTERS):
        plans.requester(number, CALLER)
    assert repr(plans) == "<CallPlans of 1 requesters>"
    plans.remember(requester, request(), plan())  # of a connection that is still open
    assert plans.find(requester, compact(BODY)) is not None


def test_switches_are_put_before_the_first_member() -> None:
    body = compact(BODY)
    assert switches_between(body, body) == b""
    sent = b'{"store":false,' + body[1:]
    assert switches_between(body, sent) == b'{"store":false,'
    assert with_switches(body, b'{"store":false,') == sent
    assert plan(switches=b'{"store":false,').sent(body, decode_fields(body)) == sent
    assert switches_between(body, body.replace(b"Hi", b"Ho")) is None
    assert switches_between(body, body[:-1] + b',"store":false}') is None


def test_marks_are_what_the_general_path_looks_for() -> None:
    chat, attempt = (
        DIALECTS["openai_chat"],
        cast("Any", type("A", (), {"quirks": Quirks(developer_role=True)})),
    )
    assert marks_of(chat, attempt, may_pin=False) == (chat.envelope_mark,)
    pinned = marks_of(chat, attempt, may_pin=True)
    assert pinned == (chat.envelope_mark, *chat.opaque_members, *chat.stored_members)
    attempt.quirks = Quirks(system_messages="first", call_ids="nine")
    assert marks_of(chat, attempt, may_pin=False) == (
        chat.envelope_mark,
        b'"developer"',
        b'"system"',
        b'"tool_call',
    )
    # Of these the general path reads more than marks.
    for name in ("openai_responses", "gemini", "gemini_array", "openai_embeddings", "anthropic_count"):
        assert marks_of(DIALECTS[name], attempt, may_pin=False) is None, name
