"""Shared by the tests of the policy: bodies of each dialect around one value, and assertions on the
verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from modelplex.policy import judge as sealed
from modelplex.policy.value_rules import RefuseRule, StripRule
from modelplex.policy.verdict import Allow, Amend, Facts, Refuse, Verdict
from modelplex.policy.walk import ValueRule
from tests.dialects.sides import all_dialects

FACTS = Facts(agent="ann", secret=b"s" * 32)
Json = dict[str, Any]
Place = Callable[[Any], Json]
"""A body around one thing."""


def facts(*allowed: str, agent: str = "ann", models: tuple[str, ...] = ()) -> Facts:
    return Facts(agent=agent, secret=b"s" * 32, allowed=frozenset(allowed), models=models)


TABLES = {name: dialect.policy for name, dialect in all_dialects().items()}


def nodes(dialect: str) -> Iterator[tuple[str, ValueRule, bool]]:
    """Every node of a table once: where it was found, and whether behind a rule."""
    seen: set[tuple[int, bool]] = set()
    left_over: list[tuple[str, ValueRule, bool]] = [("", TABLES[dialect].top, False)]
    while left_over:
        place, node, behind = left_over.pop()
        if (id(node), behind) in seen:
            continue
        seen.add((id(node), behind))
        yield place, node, behind
        inner = behind or isinstance(node, StripRule | RefuseRule)
        left_over += [(f"{place}{step}", each, inner) for step, each in node.children()]


def judge(body: bytes, *, dialect: str, facts: Facts) -> Verdict:
    """The verdict by the table of this dialect. A walk over the whole body agrees with the one by
    member, which a body without white space has.
    """
    table = TABLES[dialect]
    verdict = sealed.judge(body, table=table, facts=facts)
    if not isinstance(verdict, Refuse):
        compact = msgspec.json.format(body, indent=-1)
        by_member = verdict if compact == body else sealed.judge(compact, table=table, facts=facts)
        whole = sealed.judge_whole(compact, table=table, facts=facts)
        assert same(by_member, whole), (by_member, whole)
    return verdict


def same(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts are the same; a Raw equals no other."""
    if isinstance(one, Amend) and isinstance(other, Amend):
        assert one.body == msgspec.json.encode(one.fields)
        return (one.body, one.stripped) == (other.body, other.stripped)
    return one == other


def judge_body(body: Json | bytes, dialect: str, known: Facts = FACTS) -> Verdict:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(raw, dialect=dialect, facts=known)


def assert_allowed(body: Json, dialect: str, known: Facts = FACTS) -> None:
    """No rule fires."""
    assert judge_body(body, dialect, known) == Allow()


def amended(body: Json, dialect: str, known: Facts = FACTS) -> tuple[Json, dict[str, str]]:
    """The body after its judgement, and what was stripped by which rule."""
    verdict = judge_body(body, dialect, known)
    assert isinstance(verdict, Amend), verdict
    return json.loads(verdict.body), {item.pointer: item.rule for item in verdict.stripped}


def refused(body: Json | bytes, dialect: str, known: Facts = FACTS) -> tuple[str, str]:
    """Rule and path."""
    verdict = judge_body(body, dialect, known)
    assert isinstance(verdict, Refuse), verdict
    assert verdict.message.startswith("Refused by policy: ")
    assert f"(rule {verdict.rule})" in verdict.message
    assert verdict.path in verdict.message
    return verdict.rule, verdict.path


def chat(**members: Any) -> Json:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}


def responses(**members: Any) -> Json:
    return {"model": "m", "input": "hi", "store": False, **members}


def messages(**members: Any) -> Json:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **members}


def gemini(**members: Any) -> Json:
    return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], **members}


def ollama(**members: Any) -> Json:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}


def converse(block: Json) -> Json:
    return {"messages": [{"role": "user", "content": [{"text": "see"}, block]}]}


def chat_part(part: Json, role: str = "user") -> Json:
    return chat(messages=[{"role": role, "content": [{"type": "text", "text": "see"}, part]}])


def item(it: Any) -> Json:
    return responses(input=[{"role": "user", "content": "hi"}, it])


def block(it: Json, role: str = "user") -> Json:
    return messages(messages=[{"role": role, "content": [it]}])


def gemini_part(part: Json) -> Json:
    return gemini(contents=[{"role": "user", "parts": [part]}])
