"""Each saying of usage_limits.toml is recognised, and a rate is no usage limit."""

import json
from typing import Any

import pytest

from modelplex.core.errors import QuotaExceeded, RateLimited
from modelplex.dialects.core.usage_limits import is_usage_limit, sayings, seconds_to_reset
from modelplex.dialects.registry import provider_dialect

SAID = [(name, said) for name, table in sayings().items() for said in table.said]
CODES = [(name, code) for name, table in sayings().items() for code in table.codes]
NOON = {"date": "Wed, 07 Jan 2026 12:00:00 GMT"}


@pytest.mark.parametrize(("name", "said"), SAID)
def test_each_saying_is_recognised(name: str, said: str) -> None:
    assert is_usage_limit(429, said), name


@pytest.mark.parametrize(("name", "code"), CODES)
def test_each_code_is_recognised(name: str, code: str) -> None:
    body = json.dumps({"error": {"message": "no", "type": "x", "code": code}}).encode()
    assert isinstance(provider_dialect("openai_chat").read_error(429, {}, body), QuotaExceeded), name


def test_each_table_names_its_sources() -> None:
    assert all(table.source for table in sayings().values())
    assert all(each.startswith("https://") for table in sayings().values() for each in table.source)


@pytest.mark.parametrize("said", ["Rate limit reached for requests", "Too many requests", "slow down"])
def test_a_rate_is_none(said: str) -> None:
    body = json.dumps(
        {"error": {"message": said, "type": "requests", "code": "rate_limit_exceeded"}}
    ).encode()
    error = provider_dialect("openai_chat").read_error(429, {}, body)
    assert type(error) is RateLimited


@pytest.mark.parametrize(
    ("message", "error", "headers", "seconds"),
    [
        ("", {"resets_in_seconds": 90}, {}, 90.0),
        ("", {"resets_at": 1767787260}, NOON, 60.0),
        ("", {"resets_at": 1767787260}, {}, None),
        ("", {}, {**NOON, "anthropic-ratelimit-unified-reset": "1767787230"}, 30.0),
        ("You will regain access on 2026-01-08 at 00:00 UTC.", {}, NOON, 43200.0),
        ("Your limit will reset at 2026-01-07 02:33:30", {}, NOON, None),
        ("Your limit will reset at 2026-13-07 02:33:30 UTC", {}, NOON, None),
        ("", {"resets_at": 1}, NOON, 0.0),
        ("", {}, NOON, None),
    ],
)
def test_the_reset_is_told_as_seconds_and_never_made_up(
    message: str, error: dict[str, Any], headers: dict[str, str], seconds: float | None
) -> None:
    assert seconds_to_reset(message, error, headers) == seconds


def test_an_account_of_chatgpt_is_back_when_it_says() -> None:
    told = {"type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus"}
    body = json.dumps({"error": {**told, "resets_at": 1767787260}}).encode()
    error = provider_dialect("openai_responses").read_error(429, NOON, body)
    assert (type(error), error.type, error.retry_after) == (QuotaExceeded, "usage_limit_reached", 60.0)


def test_anthropics_limit_of_an_organisation_is_no_fault_of_the_caller() -> None:
    """A 400 invalid_request_error: https://github.com/anthropics/claude-code/issues/38035"""
    message = (
        "You have reached your specified API usage limits. You will regain access on 2026-01-08 at 00:00 UTC."
    )
    body = json.dumps(
        {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    ).encode()
    error = provider_dialect("anthropic_messages").read_error(400, NOON, body)
    assert (type(error), error.status, error.retry_after) == (QuotaExceeded, 429, 43200.0)


def test_geminis_quota_of_a_day_is_one_and_that_of_a_minute_is_not() -> None:
    def read(quota: str) -> object:
        details = [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
        ]
        error = {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": details}
        return type(provider_dialect("gemini").read_error(429, {}, json.dumps({"error": error}).encode()))

    assert read("GenerateRequestsPerDayPerProjectPerModel-FreeTier") is QuotaExceeded
    assert read("GenerateRequestsPerMinutePerProjectPerModel-FreeTier") is RateLimited


def test_ollamas_weekly_limit_is_one() -> None:
    body = b'{"error":"you (name) have reached your weekly usage limit, upgrade for higher limits"}'
    assert isinstance(provider_dialect("ollama").read_error(429, {}, body), QuotaExceeded)
