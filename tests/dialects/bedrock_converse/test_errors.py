"""Errors of Converse: what AWS's service model lists, and what its clients repeat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.core.errors import (
    OVERFLOW,
    BadRequest,
    ModelplexError,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.dialects.bedrock_converse.errors import BY_NAME, exception_inside, plain_name, read_error
from tests.dialects.bedrock_converse.converse_model import operation


def error(status: int, name: str, message: str, **headers: str) -> ModelplexError:
    body = json.dumps({"message": message}).encode()
    return read_error(status, {"x-amzn-errortype": name, **headers}, body)


def test_every_exception_of_the_service_model_has_a_row() -> None:
    stream = operation(stream=True)
    inside = stream.output_shape.members["stream"].members
    listed = {shape.name for op in (stream, operation(stream=False)) for shape in op.error_shapes}
    listed |= {shape.name for shape in inside.values() if shape.metadata.get("exception")}
    assert listed <= set(BY_NAME)
    assert {name for name in inside if name.endswith("Exception")} == {
        name[0].lower() + name[1:] for name in BY_NAME if name[0].lower() + name[1:] in inside
    }


@pytest.mark.parametrize(
    ("status", "name", "message", "kind"),
    [
        (429, "ThrottlingException", "Too many requests, please wait before trying again.", RateLimited),
        (429, "ThrottlingException", "Too many tokens, please wait before trying again.", RateLimited),
        (
            429,
            "ThrottlingException",
            "Too many tokens per day, please wait before trying again.",
            QuotaExceeded,
        ),
        (400, "ServiceQuotaExceededException", "Your request exceeds the service quota.", QuotaExceeded),
        (429, "ModelNotReadyException", "Model is not ready for inference.", Overloaded),
        (503, "ServiceUnavailableException", "Bedrock is unable to process your request.", Overloaded),
        (408, "ModelTimeoutException", "Model has timed out.", UpstreamTimeout),
        (424, "ModelErrorException", "The model failed.", UpstreamBroken),
        (500, "InternalServerException", "The system encountered an unexpected error.", UpstreamBroken),
        (403, "AccessDeniedException", "You don't have access to the model.", UpstreamAuth),
        (403, "ExpiredTokenException", "The security token is expired.", UpstreamAuth),
        (404, "ResourceNotFoundException", "Could not resolve the foundation model.", UnknownModel),
        (400, "ValidationException", "The provided model identifier is invalid.", UnknownModel),
        (400, "ValidationException", "Malformed input request.", BadRequest),
        (404, "", "", UpstreamBroken),
        (302, "", "", UpstreamBroken),
        (429, "", "Too many requests", RateLimited),
    ],
)
def test_an_exception_has_its_place_in_the_tree(
    status: int, name: str, message: str, kind: type[ModelplexError]
) -> None:
    assert type(error(status, name, message)) is kind


def test_a_conversation_that_is_too_long_is_known() -> None:
    told = "The model returned the following errors: Input is too long for requested model."
    for found in (
        error(400, "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/", told),
        exception_inside("validationException", json.dumps({"message": told}).encode()),
    ):
        assert type(found) is BadRequest
        assert found.code == OVERFLOW


@pytest.mark.parametrize(
    "given",
    [
        "ThrottlingException",
        "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
        "com.amazon.coral.service#ThrottlingException",
        "throttlingException",
    ],
)
def test_the_name_of_an_exception_stands_in_several_forms(given: str) -> None:
    assert plain_name(given) == "ThrottlingException"


def test_the_body_names_the_exception_where_no_header_does() -> None:
    body = b'{"__type":"com.amazon.coral.service#ThrottlingException","Message":"Slow down"}'
    found = read_error(400, {}, body)
    assert type(found) is RateLimited
    assert "Slow down" in found.message


def test_a_wait_is_read_and_a_page_is_not() -> None:
    assert error(429, "ThrottlingException", "x", **{"retry-after": "7"}).retry_after == 7
    assert "<html>" not in read_error(503, {}, b"<html><body>no</body></html>").message


def test_a_message_about_the_key_is_not_repeated() -> None:
    found = error(403, "UnrecognizedClientException", "The security token AKIDSECRET is invalid.")
    assert "AKIDSECRET" not in found.message


@pytest.mark.parametrize("payload", [b"", b"[]", b"{"])
def test_an_exception_without_words_is_one(payload: Any) -> None:
    assert type(exception_inside("throttlingException", payload)) is RateLimited
