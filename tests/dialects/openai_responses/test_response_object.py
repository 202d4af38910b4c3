"""The response object: echoes of the request, and errors in the API's codes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response

from modelplex.core.errors import BadRequest, ModelplexError, Overloaded, RateLimited
from modelplex.core.events import Usage
from modelplex.core.request import ChatRequest, Message, ReasoningOptions, Sampling, TextPart, Tool
from modelplex.dialects.dialect import StoredContext
from modelplex.dialects.openai_responses.response_object import ResponseObject, failure


def _write(call: ChatRequest, status: str = "completed", **more: Any) -> dict[str, Any]:
    kept = StoredContext(store=True, previous="resp_0")
    written = ResponseObject(call, id="resp_1", created=7, kept=kept)
    result: dict[str, Any] = json.loads(written.write(status, model="m", output=[], **more))
    return result


def _call(**more: Any) -> ChatRequest:
    message = Message("user", (TextPart("Hi"),))
    return ChatRequest(dialect="openai_responses", model="m", messages=(message,), **more)


def test_every_echo_has_a_value_that_the_official_type_takes() -> None:
    whole = _write(_call(tools=(Tool("f"),)), usage=Usage(fresh=1, output=2))
    Response.model_validate(whole)
    assert (whole["temperature"], whole["top_p"], whole["truncation"]) == (1, 1, "disabled")
    assert (whole["store"], whole["previous_response_id"]) == (True, "resp_0")
    assert whole["usage"]["total_tokens"] == 3


def test_what_the_client_set_is_echoed() -> None:
    call = _call(sampling=Sampling(temperature=0.2), reasoning=ReasoningOptions(effort="low"), tier="fast")
    whole = _write(call)
    assert (whole["temperature"], whole["reasoning"]["effort"], whole["service_tier"]) == (
        0.2,
        "low",
        "priority",
    )


def test_an_incomplete_response_has_its_reason() -> None:
    whole = _write(_call(), "incomplete", reason="max_output_tokens")
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("No."), "rate_limit_exceeded"),
        (BadRequest("No."), "invalid_prompt"),
        (Overloaded("No."), "server_error"),
    ],
)
def test_codes_of_errors_are_those_of_the_api(error: ModelplexError, code: str) -> None:
    assert failure(error) == {"code": code, "message": "No."}
