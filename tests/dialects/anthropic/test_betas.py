"""Values of `anthropic-beta` of open and of sealed callers (S13)."""

from __future__ import annotations

import re
from typing import Literal, get_args, get_origin

import pytest
from anthropic.types.anthropic_beta_param import AnthropicBetaParam

from modelplex.dialects.anthropic.betas import DATE, allowed_betas, betas, sealed_betas
from modelplex.policy.rules import OPENABLE
from tests.policy.judging import amended, facts, messages

KEPT = [name for name, beta in betas().items() if not beta.rule]
DROPPED = [f"{name}-2026-05-01" for name, beta in betas().items() if beta.rule]


def allowed_beta(value: str) -> bool:
    """Whether this value alone goes on where no rule is open."""
    return sealed_betas(value, facts())[0] == (value,)


@pytest.mark.parametrize("beginning", KEPT)
def test_a_beta_that_only_shapes_the_answer_is_kept_at_any_date(beginning: str) -> None:
    assert allowed_beta(f"{beginning}-2031-12-31")
    assert allowed_beta(f"{beginning}-20311231")


@pytest.mark.parametrize(
    "value",
    [*DROPPED, "brand-new-2030-01-01", "", "*", "Context-Management-2025-06-27", "x-context-management-2025"],
)
def test_every_other_beta_is_dropped(value: str) -> None:
    assert not allowed_beta(value)


@pytest.mark.parametrize("beginning", KEPT)
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "-",
        "-my-secret-words-2025-01-01",
        "-2025-13-01",
        "-2025-01-32",
        "-20250101-more",
        "-1999-01-01",
        "-2025-01-01 x",
        "-soon",
    ],
)
def test_a_beta_that_is_kept_has_no_room_for_text(beginning: str, rest: str) -> None:
    assert not allowed_beta(beginning + rest)


def test_a_beta_goes_on_with_one_date() -> None:
    header = ",".join(f"claude-code-2025-01-{day:02}" for day in range(1, 29))
    kept, dropped = sealed_betas(header, facts())
    assert kept == ("claude-code-2025-01-01",)
    assert len(dropped) == 27


@pytest.mark.parametrize("value", ["words of mine", "x" * 65, "UPPER-2025-01-01", "a--b", "a_b", "caf\u00e9"])
def test_even_where_betas_are_open_none_has_room_for_text(value: str) -> None:
    assert sealed_betas(value, facts("beta")) == ((), (value,))
    body = messages(betas=[value, "brand-new-2030-01-01"])
    after, stripped = amended(body, "anthropic_messages", facts("beta"))
    assert after["betas"] == ["brand-new-2030-01-01"]
    assert stripped == {"/betas/0": "unknown-value"}


def test_each_decision_names_a_rule_and_its_source() -> None:
    assert {beta.rule for beta in betas().values()} - {""} <= OPENABLE
    assert [name for name, beta in betas().items() if not (beta.about and beta.source)] == []
    assert list(betas()) == sorted(
        betas(), key=lambda name: (bool(betas()[name].rule), betas()[name].rule == "beta")
    )


@pytest.mark.parametrize("name", [name for name, beta in betas().items() if beta.rule])
def test_a_beta_that_is_dropped_passes_where_its_rule_is_open(name: str) -> None:
    value = f"{name}-2026-05-01"
    assert sealed_betas(value, facts(betas()[name].rule)) == ((value,), ())


def test_every_beta_of_the_official_sdk_was_decided_on() -> None:
    """A new one fails here by its name."""
    literals = [
        each
        for kind in get_args(AnthropicBetaParam)
        if get_origin(kind) is Literal
        for each in get_args(kind)
    ]
    assert len(literals) > 30
    dated = re.compile(f"(.*?)-{DATE}")
    assert [
        beta for beta in literals if (found := dated.fullmatch(beta)) is None or found[1] not in betas()
    ] == []


def test_betas_keep_their_order_and_say_which_are_gone() -> None:
    header = "claude-code-20250219, files-api-2025-04-14,interleaved-thinking-2025-05-14,,context-1m-2025-08-07,claude-code-20250219,mcp-client-2025-04-04"
    kept, dropped = sealed_betas(header, facts())
    assert kept == ("claude-code-20250219", "interleaved-thinking-2025-05-14", "context-1m-2025-08-07")
    assert dropped == ("files-api-2025-04-14", "mcp-client-2025-04-04")
    assert sealed_betas(" , ", facts()) == ((), ())
    assert sealed_betas("files-api-2025-04-14", facts())[0] == ()


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("mcp-client-2025-04-04", "remote-mcp"),
        ("code-execution-2025-08-25", "code-execution"),
        ("files-api-2025-04-14", "stored-file"),
        ("advisor-tool-2026-03-01", "second-model"),
        ("brand-new-2030-01-01", "beta"),
    ],
)
def test_a_beta_passes_where_what_it_is_for_is_open(value: str, rule: str) -> None:
    assert sealed_betas(value, facts(rule)) == ((value,), ())


def test_betas_of_an_open_caller_keep_their_order_and_pass_once() -> None:
    header = "claude-code-20250219, mcp-client-2025-04-04,context-1m-2025-08-07,,claude-code-20250219"
    assert allowed_betas(header) == "claude-code-20250219,mcp-client-2025-04-04,context-1m-2025-08-07"
