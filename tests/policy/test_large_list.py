"""A list that is not kept while it is judged gets the verdict of one that is."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from modelplex.policy import strict_json
from modelplex.policy.judge import judge_whole
from modelplex.policy.large_list import LargeList
from modelplex.policy.strict_json import LARGE_LIST, MAX_DEPTH, read_strict
from modelplex.policy.verdict import ALLOW
from tests.policy.judging import FACTS, TABLES, facts, judge, same

HELLO = {"role": "user", "content": "Hi"}
CACHED = {"type": "text", "text": "Hi", "unheard": 1}
TEXTS: list[Any] = [HELLO, {"role": "assistant", "content": "Hello"}] * 20


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


BODIES: dict[str, tuple[str, Any]] = {
    "passes": ("openai_chat", {"messages": TEXTS}),
    "one entry": ("openai_chat", {"messages": [HELLO]}),
    "no entry": ("openai_chat", {"messages": []}),
    "stripped inside": ("openai_chat", {"messages": [*TEXTS, {"role": "user", "content": [CACHED]}]}),
    "stripped beside": ("openai_chat", {"user": "ann", "messages": TEXTS, "unheard": [1, 2]}),
    "all stripped": ("openai_chat", {"messages": TEXTS, "tools": [{"type": "web_search"}] * 3}),
    "refused": ("openai_chat", {"messages": [*TEXTS, {"role": "user", "content": 7}]}),
    "no objects": ("openai_chat", {"messages": [1, 2]}),
    "a list where none may be": ("openai_chat", {"messages": TEXTS, "temperature": [1, 2]}),
    "a list for a rule of its own": (
        "openai_chat",
        {"messages": TEXTS, "search_domain_filter": ["a.example"]},
    ),
    "input": ("openai_responses", {"input": [*TEXTS, {"type": "item_reference", "id": "i"}]}),
    "contents": (
        "gemini",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}] * 20, "labels": {"a": "b"}},
    ),
    "messages": ("anthropic_messages", {"messages": TEXTS, "max_tokens": 9, "mcp_servers": [{"url": "u"}]}),
    "as deep as may be": ("openai_chat", {"messages": [nested(MAX_DEPTH - 2)]}),
    "too deep": ("openai_chat", {"messages": [nested(MAX_DEPTH - 1)]}),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("rules", [frozenset[str](), frozenset({"web-search", "unknown-field"})])
def test_the_verdict_is_the_same(name: str, rules: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    dialect, members = BODIES[name]
    body = json.dumps({"model": "m", **members}).encode()
    known = facts(*rules) if rules else FACTS
    kept = judge(body, dialect=dialect, facts=known)
    monkeypatch.setattr(strict_json, "PIECE_SIZE", 40)
    monkeypatch.setattr(strict_json, "LARGE_LIST", 0)
    assert same(judge(body, dialect=dialect, facts=known), kept)


def test_a_key_that_stands_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "PIECE_SIZE", 40)
    monkeypatch.setattr(strict_json, "LARGE_LIST", 0)
    body = b'{"messages":[%b,{"role":"user","content":"a","content":"b"}]}' % json.dumps(HELLO).encode()
    verdict = judge(body, dialect="openai_chat", facts=FACTS)
    assert "messages[1].content" in repr(verdict)


def test_the_texts_of_a_large_body_are_not_all_in_memory() -> None:
    """A text with one character beyond the Basic Multilingual Plane takes four bytes for each."""
    text = "x" * 6000 + "\U0001f600"
    messages = [{"role": "user", "content": text}] * (LARGE_LIST // 6000 + 1)
    body = json.dumps({"model": "m", "messages": messages}, ensure_ascii=False).encode()
    tracemalloc.start()
    try:
        assert judge_whole(body, table=TABLES["openai_chat"], facts=FACTS) == ALLOW
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(body) / 2
    found = read_strict(body)["messages"]
    assert isinstance(found, LargeList)
    assert (len(found), list(found)) == (len(messages), messages)
