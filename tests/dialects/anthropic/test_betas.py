"""Values of `anthropic-beta` of open and of sealed callers (S13)."""

from __future__ import annotations

import re
from typing import Literal, get_args, get_origin

import pytest
from anthropic.types.anthropic_beta_param import AnthropicBetaParam

from modelplex.dialects.anthropic.betas import DATE, KEPT, OPENED_BY, allowed_betas, sealed_betas
from tests.policy.judging import amended, facts, messages

DROPPED = (
    "mcp-client-2025-04-04 mcp-tunnels-2026-01-01 code-execution-2025-05-22 files-api-2025-04-14 skills-2025-10-02 inline-tools-2026-09-15 "
    "mid-conversation-tool-changes-2026-07-01 message-threads-2026-06-01 message-batches-2024-09-24 server-side-fallback-2026-05-01 "
    "fallback-credit-2026-05-01 advisor-tool-2026-03-01 agent-memory-2026-01-01 managed-agents-2026-04-01 dreaming-2026-04-21 "
    "telemetry-destinations-2026-05-01 webhooks-2026-05-01 efs-2026-10-01 google-managed-data-controls-2026-09-01 user-profiles-2026-03-24 fast-mode-2026-02-01 brand-new-2030-01-01 web-search-2025-03-05"
).split()


def allowed_beta(value: str) -> bool:
    """Whether this value alone goes on where no rule is open."""
    return sealed_betas(value, facts())[0] == (value,)


@pytest.mark.parametrize("beginning", KEPT)
def test_a_beta_that_only_shapes_the_answer_is_kept_at_any_date(beginning: str) -> None:
    assert allowed_beta(f"{beginning}2031-12-31")


@pytest.mark.parametrize(
    "value", [*DROPPED, "", "*", "Context-Management-2025-06-27", "x-context-management-2025"]
)
def test_every_other_beta_is_dropped(value: str) -> None:
    assert not allowed_beta(value)


@pytest.mark.parametrize("beginning", KEPT)
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "my-secret-words-2025-01-01",
        "2025-13-01",
        "2025-01-32",
        "20250101-more",
        "1999-01-01",
        "2025-01-01 x",
        "soon",
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


UNDECIDED = (
    "dev-full-thinking- message-batches- agent-memory- managed-agents- dreaming- ce-plugins- spend-limit-reads- telemetry-destinations- webhooks- "
    "admin-user-sign-out- analytics-usage-cost- experimental-claude-tag- cache-diagnosis- ce-user-management- ce-claude-code-managed-settings- "
    "efs- google-managed-data-controls-"
).split()
"""Betas of the SDK's that are dropped whatever is open but `beta`: other endpoints, or state at the
provider. `efs-` (buckets for a workspace's inference data) and `google-managed-data-controls-` are
of endpoints that set where an organization's data is kept (SDK 2.15.0, resources/beta, 2026-12-01).
"""


def test_every_beta_of_the_official_sdk_was_decided_on() -> None:
    """A new one fails here by its name."""
    literals = [
        each
        for kind in get_args(AnthropicBetaParam)
        if get_origin(kind) is Literal
        for each in get_args(kind)
    ]
    assert len(literals) > 30
    known = (*KEPT, *dict(OPENED_BY), *UNDECIDED)
    undecided = [beta for beta in literals if not any(re.fullmatch(name + DATE, beta) for name in known)]
    assert undecided == []


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
