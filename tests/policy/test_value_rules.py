"""Rules for one value: strip, refuse, overwrite, hash, and checks of URLs and model names."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.policy.leaves import FLAG
from modelplex.policy.value_rules import (
    HASH_LENGTH,
    HASH_PREFIX,
    INLINE_BYTES,
    INLINE_URL,
    PERMITTED_MODEL,
    ExceptRule,
    HashRule,
    OverwriteRule,
    RefuseRule,
    StripRule,
    keyed_hash,
)
from modelplex.policy.verdict import Facts
from modelplex.policy.walk import REMOVED, PolicyRefusal, PolicyWalk, ValueRule
from tests.policy.judging import (
    Json,
    assert_allowed,
    chat_part,
    facts,
    refused,
)


def test_the_head_of_a_data_url_is_read_in_one_pass_and_not_beyond_its_limit() -> None:
    def said(url: str) -> Json:
        return chat_part({"type": "image_url", "image_url": {"url": url}})

    assert_allowed(said("data:image/png;charset=utf-8;base64,QUJD"), "openai_chat")
    assert_allowed(said("data:image/png" + ";a=b" * 200 + ",QUJD"), "openai_chat")
    for head in (";a=b" * 100_000, "a" * 100_000, ";a" * 100_000, "/" * 100_000):
        rule, _ = refused(said(f"data:{head},QUJD"), "openai_chat")
        assert rule == "remote-url"


def apply(rule: ValueRule, value: Any, known: Facts | None = None) -> list[Any]:
    """The values of the edits."""
    walk = PolicyWalk(known or facts())
    rule(walk, value, (None, "v"))
    return [edit.value for edit in walk.edits]


def refused_by(rule: ValueRule, value: Any, known: Facts | None = None) -> str:
    with pytest.raises(PolicyRefusal) as refusal:
        apply(rule, value, known)
    return refusal.value.rule


def test_a_value_is_stripped_unless_its_rule_is_allowed() -> None:
    rule = StripRule("labels", FLAG)
    assert apply(rule, "x") == [REMOVED]
    assert apply(rule, True, facts("labels")) == []
    assert refused_by(rule, "x", facts("labels")) == "unknown-form"


def test_a_value_is_refused_unless_it_is_harmless_or_its_rule_is_allowed() -> None:
    rule = RefuseRule("stored-file", FLAG, harmless=(False,))
    assert apply(rule, None) == apply(rule, []) == apply(rule, False) == []
    values: list[Any] = [True, 0, "", {}, [1]]
    for value in values:
        assert refused_by(rule, value) == "stored-file"
    assert apply(rule, True, facts("stored-file")) == []
    assert refused_by(rule, "x", facts("stored-file")) == "unknown-form"


def test_a_value_is_overwritten_unless_it_is_that_value() -> None:
    rule = OverwriteRule("store", False)
    assert apply(rule, True) == apply(rule, 0) == apply(rule, None) == [False]
    assert apply(rule, False) == apply(rule, True, facts("store")) == []


def test_a_rule_can_have_an_exception() -> None:
    rule = ExceptRule(False, StripRule("store"))
    assert apply(rule, False) == apply(rule, None) == []
    assert apply(rule, 0) == [REMOVED]


def test_a_hash_is_of_the_agent_the_purpose_and_the_value() -> None:
    hashed = keyed_hash(facts(), "p", b"v")
    assert hashed.startswith(HASH_PREFIX)
    assert len(hashed) == len(HASH_PREFIX) + HASH_LENGTH
    others = {
        keyed_hash(facts(agent="bob"), "p", b"v"),
        keyed_hash(facts(), "q", b"v"),
        keyed_hash(facts(), "p", b"w"),
        keyed_hash(Facts(agent="ann", secret=b"t" * 32), "p", b"v"),
    }
    assert len(others | {hashed}) == 5
    assert keyed_hash(facts(agent="a\0b"), "p", b"c") != keyed_hash(facts(agent="a"), "p", b"b\0c")


def test_an_identity_is_hashed_unless_the_rule_is_allowed() -> None:
    assert apply(HashRule("p"), "x") == apply(HashRule("p"), "y") == [keyed_hash(facts(), "p")]
    assert apply(HashRule("p", of_value=True), "x") != apply(HashRule("p", of_value=True), "y")
    assert apply(HashRule("p"), None) == apply(HashRule("p"), "x", facts("identity")) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://e.example/x",
        "HTTP://e",
        "//e.example",
        "data",
        " data:,x",
        "file:///x",
        "QUJD",
        1,
        ["data:,x"],
    ],
)
def test_only_a_data_url_is_an_inline_url(url: Any) -> None:
    assert refused_by(INLINE_URL, url) == "remote-url"
    for scheme in ("data", "DATA"):
        assert apply(INLINE_URL, f"{scheme}:image/png;base64,QUJD") == apply(INLINE_URL, None) == []


@pytest.mark.parametrize("value", ["QUJD", "QQ==", "QUJ\nD", "data:,x", "", "ab-_"])
def test_base64_and_data_urls_are_inline_bytes(value: str) -> None:
    assert apply(INLINE_BYTES, value) == []


@pytest.mark.parametrize("value", ["QUJ", "//e.example/abc", "\n//ab", "a.png", "/é==", "https://e", 1])
def test_anything_else_is_not(value: Any) -> None:
    assert refused_by(INLINE_BYTES, value) == "remote-url"


def test_a_model_within_a_body_must_be_permitted() -> None:
    some = facts(models=("gpt-*",))
    assert (
        apply(PERMITTED_MODEL, "gpt-5", some)
        == apply(PERMITTED_MODEL, "any")
        == apply(PERMITTED_MODEL, None)
        == []
    )
    assert refused_by(PERMITTED_MODEL, "claude", some) == "unlisted-model"
    assert refused_by(PERMITTED_MODEL, "sonar", some) == "self-searching-model"
    assert refused_by(PERMITTED_MODEL, {"name": "gpt-5"}, some) == "unknown-form"
