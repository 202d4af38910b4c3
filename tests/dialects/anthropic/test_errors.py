"""Errors, lists and counts as Anthropic's clients expect them."""

import json
from typing import Any

import pytest
from anthropic.types import MessageTokensCount, ModelInfo
from anthropic.types.shared import ErrorResponse

from modelplex.core import errors
from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    UnknownModel,
    UpstreamBroken,
    UpstreamReply,
)
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.core.estimate import estimated
from modelplex.dialects.core.sse import SseReader
from tests.dialects.anthropic.peer import make_ask


def _told(error: ModelplexError) -> tuple[int, dict[str, Any]]:
    status, body = anthropic.write_error(error, request_id="req_1")
    told: dict[str, Any] = json.loads(body)
    if told["error"]["type"] != "request_too_large":  # documented, and missing among the client's types
        ErrorResponse.model_validate(told, strict=True)
    return status, told


@pytest.mark.parametrize(
    ("kind", "status", "word"),
    [
        (errors.BadRequest, 400, "invalid_request_error"),
        (errors.Unsupported, 400, "invalid_request_error"),
        (errors.Unauthorized, 401, "authentication_error"),
        (errors.PolicyDenied, 403, "permission_error"),
        (errors.UnknownModel, 404, "not_found_error"),
        (errors.NotFound, 404, "not_found_error"),
        (errors.MethodNotAllowed, 405, "invalid_request_error"),
        (errors.RequestTimeout, 408, "timeout_error"),
        (errors.TooLarge, 413, "request_too_large"),
        (errors.Misdirected, 421, "invalid_request_error"),
        (errors.RateLimited, 429, "rate_limit_error"),
        (errors.UpstreamAuth, 502, "api_error"),
        (errors.UpstreamBroken, 502, "api_error"),
        (errors.UpstreamTimeout, 504, "timeout_error"),
        (errors.Overloaded, 503, "api_error"),
        (errors.Busy, 503, "api_error"),
        (errors.Stopping, 503, "api_error"),
        (errors.CircuitOpen, 429, "rate_limit_error"),
        (errors.AgentLimited, 429, "rate_limit_error"),
        (errors.BudgetExceeded, 402, "billing_error"),
        (errors.GatewayFault, 500, "api_error"),
        (errors.StatePinned, 503, "api_error"),
    ],
)
def test_each_error_has_its_status_and_its_word(kind: type[ModelplexError], status: int, word: str) -> None:
    given, body = _told(kind("So it is."))
    assert (given, body["error"]["type"], body["error"]["message"]) == (status, word, "So it is.")
    assert (body["type"], body["request_id"]) == ("error", "req_1")


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("Busy.", upstream=UpstreamReply(status=529)),
        Overloaded("Busy.", upstream=UpstreamReply(type="overloaded_error")),
        Overloaded("Busy.", upstream=UpstreamReply(code="server_is_overloaded")),
        Overloaded("The provider answered 503: The model is overloaded.", upstream=UpstreamReply(status=503)),
    ],
)
def test_a_service_is_at_capacity_where_it_says_so_itself(error: ModelplexError) -> None:
    """Claude Code tells its user of 529 that "the API is at capacity"."""
    given, body = _told(error)
    assert (given, body["error"]["type"]) == (529, "overloaded_error")


def test_the_cause_and_the_place_are_named() -> None:
    _, body = _told(BadRequest("It is missing.", param="max_tokens"))
    assert body["error"]["details"] == {"param": "max_tokens"}
    _, body = _told(UnknownModel("No such model."))
    assert body["error"]["details"] == {"error_code": "model_not_found"}


def test_what_anthropic_said_of_a_clients_fault_goes_on_as_it_came() -> None:
    own = b'{"type":"error","error":{"type":"invalid_request_error","message":"messages: too many"},"request_id":"r"}'
    error = anthropic.read_error(400, {}, own)
    assert anthropic.write_error(error, request_id="req_1") == (400, own)


def test_what_another_provider_said_is_told_in_this_form() -> None:
    body = b'{"error":{"message":"Bad","type":"invalid_request_error","param":null,"code":null}}'
    _, told = _told(BadRequest("Bad", upstream=UpstreamReply(body=body)))
    assert told["type"] == "error"
    assert told["error"]["message"] == "Bad"


def test_a_rejected_upstream_key_never_shows_as_a_login() -> None:
    own = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
    status, told = _told(anthropic.read_error(401, {}, own))
    assert (status, told["error"]["type"]) == (502, "api_error")


def test_a_conversation_that_is_too_long_is_told_in_the_words_that_agents_wait_for() -> None:
    said = "This model's maximum context length is 8192 tokens."
    _, told = _told(BadRequest(said, code="context_length_exceeded"))
    assert told["error"]["message"] == f"prompt is too long: {said}"
    own = BadRequest("prompt is too long: 9 tokens > 8 maximum", code="context_length_exceeded")
    assert _told(own)[1]["error"]["message"] == own.message


def test_an_error_in_a_stream_has_its_word_and_its_cause() -> None:
    (event,) = SseReader().feed(anthropic.error_event(RateLimited("Slow down."), request_id="req_1"))
    assert event.event == "error"
    assert json.loads(event.data)["error"] == {
        "type": "rate_limit_error",
        "message": "Slow down.",
        "details": {"error_code": "rate_limit_exceeded"},
    }


# --- lists and counts -----------------------------------------------------------------------------


def test_models_are_listed_on_one_page_in_the_clients_own_form() -> None:
    page = json.loads(anthropic.write_models({"claude": "anthropic", "qwen3:8b": "ollama"}))
    assert [ModelInfo.model_validate(model).id for model in page["data"]] == ["claude", "qwen3:8b"]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "claude", "qwen3:8b")
    empty = json.loads(anthropic.write_models({}))
    assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert ModelInfo.model_validate_json(anthropic.write_model("claude")).display_name == "claude"


def test_our_own_list_is_one_that_we_can_read() -> None:
    listed = anthropic.read_models(anthropic.write_models({"claude": "anthropic"}))
    assert [(model.id, model.created) for model in listed] == [("claude", 0)]


def test_a_count_says_whether_anybody_counted() -> None:
    counted = anthropic.write_count(7, estimated=False)
    assert json.loads(counted) == {"input_tokens": 7}
    estimated = anthropic.write_count(7, estimated=True)
    assert json.loads(estimated) == {"input_tokens": 7, "estimated": True}
    assert MessageTokensCount.model_validate_json(estimated).input_tokens == 7
    assert anthropic.read_count(counted) == 7


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input_tokens":"7"}', b"\xff"])
def test_what_is_no_count_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        anthropic.read_count(body)


def test_an_estimate_reads_what_is_said_and_neither_pictures_nor_signatures() -> None:
    bytes_ = "A" * 40_000
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": bytes_}}
    thinking = {"type": "thinking", "thinking": "hm", "signature": bytes_}
    redacted = {"type": "redacted_thinking", "data": bytes_}
    ask = make_ask(
        [{"role": "user", "content": [picture]}, {"role": "assistant", "content": [thinking, redacted]}]
    )
    assert estimated(ask, characters=0).fresh < 100
    assert estimated(make_ask(system="a" * 4000), characters=0).fresh > 1000
    odd = {"name": "x", "input_schema": {"type": "object", "properties": {"type": {"type": "string"}}}}
    assert estimated(make_ask(tools=[odd]), characters=0).fresh > 0
