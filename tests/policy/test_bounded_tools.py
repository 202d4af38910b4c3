"""Allowed tools with bounds: a request may narrow them and never widen them, and a form that cannot
express them is refused.
"""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.caller import Bound
from modelplex.policy.bounds import bounds_of, rule_names
from modelplex.policy.verdict import Facts
from tests.policy.judging import (
    Json,
    amended,
    assert_allowed,
    chat,
    gemini,
    item,
    judge_body,
    messages,
    refused,
    responses,
)

DOCS = ("docs.example.com", "example.org")

SEARCH = "web-search"


def bounded(*bounds: Bound, rules: tuple[str, ...] = ()) -> Facts:
    allowed: tuple[str | Bound, ...] = (*rules, *bounds)
    return Facts(agent="ann", secret=b"s" * 32, allowed=rule_names(allowed), bounds=bounds_of(allowed))


DOMAINS = bounded(Bound(SEARCH, DOCS), Bound("web-fetch", DOCS))

USES = bounded(Bound(SEARCH, max_uses=3), Bound("web-fetch", max_uses=3))

BOTH = bounded(Bound(SEARCH, DOCS, 3), Bound("web-fetch", DOCS, 3))


def claude(kind: str = "web_search_20250305", **members: Any) -> Json:
    return messages(tools=[{"type": kind, "name": kind[:10].rstrip("_"), **members}])


def openai(kind: str = "web_search", **members: Any) -> Json:
    return responses(tools=[{"type": kind, **members}])


def tool_of(body: Json) -> Json:
    found: Json = body["tools"][0]
    return found


@pytest.mark.parametrize(
    "kind", ["web_search_20250305", "web_search_20260318", "web_fetch_20250910", "web_fetch_20260318"]
)
def test_anthropics_tools_get_the_bounds_that_they_do_not_say(kind: str) -> None:
    body, told = amended(claude(kind), "anthropic_messages", BOTH)
    assert tool_of(body)["allowed_domains"] == list(DOCS)
    assert tool_of(body)["max_uses"] == 3
    rule = kind[:10].rstrip("_").replace("_", "-")
    assert told == {"/tools/0/allowed_domains": rule, "/tools/0/max_uses": rule}
    assert_allowed(body, "anthropic_messages", BOTH)


def test_two_tools_may_not_be_used_twice_as_often() -> None:
    two = messages(tools=[{"type": f"web_search_{date}", "name": date} for date in ("20250305", "20260318")])
    assert refused(two, "anthropic_messages", USES) == (SEARCH, "tools[1]")
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool_of(claude())}}
    hidden = {**claude(), "messages": [{"role": "user", "content": [{"type": "text", "text": "t"}, added]}]}
    assert refused(hidden, "anthropic_messages", USES)[0] == SEARCH
    after, _ = amended(two, "anthropic_messages", DOMAINS)
    assert [tool["allowed_domains"] for tool in after["tools"]] == [list(DOCS), list(DOCS)]


@pytest.mark.parametrize("dialect", ["anthropic_messages", "anthropic_count"])
def test_a_request_to_anthropic_narrows_and_does_not_widen(dialect: str) -> None:
    assert_allowed(claude(allowed_domains=["a.docs.example.com"], max_uses=1), dialect, BOTH)
    assert_allowed(claude(allowed_domains=list(DOCS), max_uses=3), dialect, BOTH)
    wide = claude(allowed_domains=["example.com", "evil.example", "EXAMPLE.ORG."], max_uses=99)
    body, _ = amended(wide, dialect, BOTH)
    assert tool_of(body)["allowed_domains"] == list(DOCS)
    assert tool_of(body)["max_uses"] == 3


def test_what_is_blocked_is_taken_from_what_is_allowed() -> None:
    body, told = amended(
        claude(blocked_domains=["example.org", "evil.example"]), "anthropic_messages", DOMAINS
    )
    assert tool_of(body) == {
        "type": "web_search_20250305",
        "name": "web_search",
        "allowed_domains": ["docs.example.com"],
    }
    assert set(told) == {"/tools/0/allowed_domains", "/tools/0/blocked_domains"}
    for blocked in (["com", "org"], ["a.example.org"]):
        rule, path = refused(claude(blocked_domains=blocked), "anthropic_messages", DOMAINS)
        assert (rule, path) == (SEARCH, "tools[0].blocked_domains")


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"allowed_domains": ["evil.example"]}, "tools[0].allowed_domains"),
        ({"allowed_domains": ["example.com/blog"]}, "tools[0].allowed_domains"),
    ],
)
def test_an_empty_intersection_is_refused(members: Json, path: str) -> None:
    assert refused(claude(**members), "anthropic_messages", DOMAINS) == (SEARCH, path)
    verdict = judge_body(claude(**members), "anthropic_messages", DOMAINS)
    assert "names no allowed domain" in getattr(verdict, "message", "")


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"allowed_domains": "example.org"}, "tools[0].allowed_domains"),
        ({"allowed_domains": [{"url": "https://e"}]}, "tools[0].allowed_domains[0]"),
        ({"allowed_domains": ["https://example.org"]}, "tools[0].allowed_domains[0]"),
        ({"allowed_domains": ["*.example.org"]}, "tools[0].allowed_domains[0]"),
        ({"max_uses": "3"}, "tools[0].max_uses"),
        ({"max_uses": True}, "tools[0].max_uses"),
        ({"max_uses": -1}, "tools[0].max_uses"),
    ],
)
def test_bounds_of_another_shape_are_refused(members: Json, path: str) -> None:
    assert refused(claude(**members), "anthropic_messages", BOTH) == ("unknown-form", path)


def test_an_unknown_member_of_a_bounded_tool_is_stripped() -> None:
    for body, dialect in (
        (claude(allowed_domains=list(DOCS), also_search=["evil.example"]), "anthropic_messages"),
        (openai(filters={"allowed_domains": list(DOCS)}, also_search=["evil.example"]), "openai_responses"),
    ):
        _, told = amended(body, dialect, DOMAINS)
        assert told == {"/tools/0/also_search": "unknown-field"}


def test_the_responses_form_gets_filters_and_a_number_of_calls() -> None:
    body, told = amended(openai(), "openai_responses", BOTH)
    assert tool_of(body)["filters"] == {"allowed_domains": list(DOCS)}
    assert body["max_tool_calls"] == 3
    assert told == {"/tools/0/filters": SEARCH, "/max_tool_calls": SEARCH}
    assert_allowed(body, "openai_responses", BOTH)
    wide = {**openai(filters={"allowed_domains": ["com"]}), "max_tool_calls": 50}
    body, _ = amended(wide, "openai_responses", BOTH)
    assert tool_of(body)["filters"] == {"allowed_domains": ["docs.example.com"]}
    assert body["max_tool_calls"] == 3
    narrow = {
        **openai("web_search_2025_08_26", filters={"allowed_domains": ["a.example.org"]}),
        "max_tool_calls": 1,
    }
    assert_allowed(narrow, "openai_responses", BOTH)
    assert refused(openai(filters={"allowed_domains": ["e.example"]}), "openai_responses", DOMAINS) == (
        SEARCH,
        "tools[0].filters.allowed_domains",
    )


def test_a_tool_of_the_responses_form_is_bounded_wherever_it_hides() -> None:
    tools = [{"type": "web_search"}]
    for body in (
        item({"type": "additional_tools", "role": "developer", "tools": tools}),
        item({"type": "tool_search_output", "tools": tools}),
        responses(tools=[{"type": "namespace", "name": "n", "tools": tools}]),
    ):
        after, _ = amended(body, "openai_responses", BOTH)
        assert "docs.example.com" in str(after)
        assert after["max_tool_calls"] == 3


def test_a_count_is_told_no_number_of_calls() -> None:
    body, _ = amended({"model": "m", "input": "i", "tools": [{"type": "web_search"}]}, "openai_count", BOTH)
    assert "max_tool_calls" not in body


UNSAYABLE: list[tuple[str, str, Json, Facts, str]] = [
    ("openai_responses", SEARCH, openai("web_search_preview"), DOMAINS, "tools[0]"),
    ("openai_chat", SEARCH, chat(web_search_options={}), DOMAINS, "web_search_options"),
    ("openai_chat", SEARCH, chat(web_search_options={}), USES, "web_search_options"),
    ("openai_chat", SEARCH, chat(enable_search=True), DOMAINS, "enable_search"),
    ("openai_chat", SEARCH, chat(search_parameters={"mode": "on"}), DOMAINS, "search_parameters"),
    ("openai_chat", SEARCH, chat(search_domain_filter=["example.org"]), USES, "search_domain_filter"),
    ("openai_chat", SEARCH, chat(tools=[{"type": "web_search"}]), DOMAINS, "tools[0]"),
    ("openai_chat", "web-fetch", chat(tools=[{"type": "web_extractor"}]), DOMAINS, "tools[0]"),
    ("gemini", SEARCH, gemini(tools=[{"googleSearch": {}}]), DOMAINS, "tools[0].googleSearch"),
    ("gemini", SEARCH, gemini(tools=[{"google_search": {"exclude_domains": ["e"]}}]), DOMAINS, "tools[0].google_search"),
    ("gemini", SEARCH, gemini(tools=[{"googleSearch": {}}]), USES, "tools[0].googleSearch"),
    ("gemini", SEARCH, gemini(tools=[{"enterpriseWebSearch": {}}]), DOMAINS, "tools[0].enterpriseWebSearch"),
    ("gemini", SEARCH, gemini(tools=[{"googleMaps": {}}]), DOMAINS, "tools[0].googleMaps"),
    ("gemini", "web-fetch", gemini(tools=[{"urlContext": {}}]), DOMAINS, "tools[0].urlContext"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "rule", "body", "known", "path"), UNSAYABLE)
def test_a_form_without_words_for_a_bound_is_refused_with_a_sentence(
    dialect: str, rule: str, body: Json, known: Facts, path: str
) -> None:
    assert refused(body, dialect, known) == (rule, path)
    sentence = getattr(judge_body(body, dialect, known), "message", "")
    assert "this form has no member for" in sentence
    assert "[policy.allow]" in sentence


def test_the_older_search_of_the_responses_form_can_be_counted() -> None:
    body, told = amended(openai("web_search_preview"), "openai_responses", USES)
    assert body["max_tool_calls"] == 3
    assert told == {"/max_tool_calls": SEARCH}


def test_perplexitys_list_of_domains_is_narrowed() -> None:
    assert_allowed(chat(search_domain_filter=["example.org"]), "openai_chat", DOMAINS)
    body, told = amended(chat(search_domain_filter=["com"]), "openai_chat", DOMAINS)
    assert body["search_domain_filter"] == ["docs.example.com"]
    assert told == {"/search_domain_filter": SEARCH}
    assert refused(chat(search_domain_filter=["-example.org"]), "openai_chat", DOMAINS)[0] == "unknown-form"


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses"])
def test_openrouters_own_switches_do_not_widen_what_is_bounded(dialect: str) -> None:
    known = bounded(Bound(SEARCH, DOCS), Bound("web-fetch", DOCS), rules=("provider-switch",))
    base = chat if dialect == "openai_chat" else responses
    body, _ = amended(base(plugins=[{"id": "web"}, {"id": "file-parser"}]), dialect, known)
    assert body["plugins"] == [{"id": "web", "include_domains": list(DOCS)}, {"id": "file-parser"}]
    body, _ = amended(base(tools=[{"type": "openrouter:web_search"}]), dialect, known)
    assert tool_of(body)["parameters"] == {"allowed_domains": list(DOCS)}
    assert refused(base(tools=[{"type": "openrouter:web_fetch"}]), dialect, known)[0] == "web-fetch"
    counted = bounded(Bound(SEARCH, max_uses=1), rules=("provider-switch",))
    assert refused(base(plugins=[{"id": "web"}]), dialect, counted) == (SEARCH, "plugins[0]")


def test_a_search_that_is_null_is_none() -> None:
    assert_allowed(chat(web_search_options=None, enable_search=None), "openai_chat", BOTH)


def test_a_rule_without_bounds_is_as_it_was() -> None:
    known = bounded(rules=(SEARCH, "web-fetch"))
    assert_allowed(claude(allowed_domains=["any.example"], anything={"x": 1}), "anthropic_messages", known)
    assert_allowed(openai(filters={"allowed_domains": ["any.example"]}), "openai_responses", known)
    assert_allowed(gemini(tools=[{"googleSearch": {}}, {"urlContext": {}}]), "gemini", known)
    assert_allowed(
        chat(web_search_options={"x": 1}, search_domain_filter=["-a.example"]), "openai_chat", known
    )


def test_a_bound_of_one_rule_opens_no_other() -> None:
    _, told = amended(claude("web_fetch_20250910"), "anthropic_messages", bounded(Bound(SEARCH, DOCS)))
    assert set(told.values()) == {"web-fetch"}


def test_bounds_that_have_nothing_in_common_let_nothing_pass() -> None:
    known = bounded(Bound(SEARCH, ("a.example",)), Bound(SEARCH, ("b.example",)))
    assert refused(claude(), "anthropic_messages", known) == (SEARCH, "tools[0].allowed_domains")
