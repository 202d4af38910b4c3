"""Each saying of context_overflow.toml is recognised, in the shapes in which errors come, and what
is about rates is not.
"""

import json

import msgspec
import pytest

from modelplex.core.errors import OVERFLOW, BadRequest, RateLimited
from modelplex.dialects.core.context_overflow import is_overflow, sayings
from modelplex.dialects.registry import provider_dialect, write_error

SAID = [(name, said) for name, table in sayings().items() for said in table.said]
CODES = [(name, code) for name, table in sayings().items() for code in table.codes]


@pytest.mark.parametrize(("name", "said"), SAID)
def test_each_saying_is_recognised(name: str, said: str) -> None:
    assert is_overflow(400, said), name


def test_each_table_names_its_sources() -> None:
    assert all(each.startswith("https://") for table in sayings().values() for each in table.source)
    assert all(table.source for table in sayings().values())


@pytest.mark.parametrize(("name", "code"), CODES)
def test_a_code_decides_whatever_the_message_says(name: str, code: str) -> None:
    body = json.dumps({"error": {"message": "no", "type": "invalid_request_error", "code": code}}).encode()
    assert provider_dialect("openai_chat").read_error(400, {}, body).code == OVERFLOW, name


@pytest.mark.parametrize(
    "said",
    [
        "Too many tokens, please wait before trying again.",
        "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9000",
        "Rate limit reached: the prompt is too long for your tokens per minute",
        "'messages' must not be empty",
        "Invalid 'user': string too long. Expected a string with maximum length 64",
        "max_tokens is too large: 9000. This model supports at most 4096 completion tokens",
    ],
)
def test_other_limits_are_not_taken_for_it(said: str) -> None:
    assert not is_overflow(400, said)


def test_a_rate_limit_stays_one() -> None:
    body = b'{"error":{"message":"prompt is too long for now","type":"tokens","code":"rate_limit_exceeded"}}'
    assert isinstance(provider_dialect("openai_chat").read_error(429, {}, body), RateLimited)


@pytest.mark.parametrize(("name", "said"), SAID)
@pytest.mark.parametrize(
    "dialect", ["openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama"]
)
def test_clients_of_every_dialect_get_what_they_act_on(dialect: str, name: str, said: str) -> None:
    """Whatever dialect the provider has."""
    shapes: dict[str, object] = {
        "openai_chat": {"error": {"message": said, "type": "invalid_request_error", "code": 400}},
        "openai_responses": {"object": "error", "message": said, "code": 400},
        "anthropic_messages": {"type": "error", "error": {"type": "invalid_request_error", "message": said}},
        "gemini": {"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}},
        "ollama": {"error": said},
    }
    error = provider_dialect(dialect).read_error(400, {}, json.dumps(shapes[dialect]).encode())
    assert (type(error), error.code) == (BadRequest, OVERFLOW), name
    error.upstream = msgspec.structs.replace(error.upstream, body=None)
    status, body = write_error("openai_chat", error, request_id="r")
    assert (status, json.loads(body)["error"]["code"]) == (400, OVERFLOW)
    status, body = write_error("anthropic_messages", error, request_id="r")
    assert status == 400
    assert "prompt is too long" in json.loads(body)["error"]["message"].lower()


def test_an_error_of_the_clients_dialect_keeps_its_other_members() -> None:
    """llama.cpp tells both numbers, and gives the status as the code."""
    told = {"code": 400, "message": "the request exceeds the available context size, try increasing it"}
    given = {"error": {**told, "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}}
    error = provider_dialect("openai_chat").read_error(400, {}, json.dumps(given).encode())
    status, body = write_error("openai_chat", error, request_id="r")
    assert status == 400
    assert json.loads(body) == {"error": {**given["error"], "code": OVERFLOW}}


def test_what_a_router_quotes_is_read() -> None:
    """https://github.com/cline/cline/issues/13194"""
    raw = '{"error":{"message":"This model\'s maximum context length is 262144 tokens.","code":400}}'
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}
    assert provider_dialect("openai_chat").read_error(400, {}, json.dumps(body).encode()).code == OVERFLOW


@pytest.mark.parametrize(
    "said", ["Input is too long for requested model.", "The model has reached its context window limit."]
)
def test_another_services_sentence_in_anthropics_form_is_written_anew(said: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": said}}).encode()
    error = provider_dialect("anthropic_messages").read_error(400, {}, body)
    _, written = write_error("anthropic_messages", error, request_id="r")
    assert json.loads(written)["error"]["message"] == f"prompt is too long: {said}"


def test_anthropics_own_sentence_passes_unchanged() -> None:
    said = "input length and `max_tokens` exceed context limit: 196778 + 21333 > 200000"
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": said}}).encode()
    error = provider_dialect("anthropic_messages").read_error(400, {}, body)
    assert write_error("anthropic_messages", error, request_id="r") == (400, body)


def test_a_runner_that_answers_500_is_heeded() -> None:
    body = b'{"error":"the request exceeds the available context size (4096 tokens), try increasing it"}'
    error = provider_dialect("ollama").read_error(500, {}, body)
    assert (type(error), error.status, error.code) == (BadRequest, 400, OVERFLOW)
