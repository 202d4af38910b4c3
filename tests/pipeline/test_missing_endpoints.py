"""What says that an endpoint is missing, and how long it is remembered."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.request import Attempt
from modelplex.dialects.registry import provider_dialect
from modelplex.pipeline.missing_endpoints import (
    MAX_REMEMBERED,
    REMEMBERED_S,
    MissingEndpoints,
    is_missing_endpoint,
)

ATTEMPT = Attempt(provider="p", model="m-1", dialect="openai_responses", endpoint="responses")


@pytest.mark.parametrize(
    ("status", "body", "missing"),
    [
        (404, {"detail": "Not Found"}, True),
        (405, {"detail": "Method Not Allowed"}, True),
        (501, {}, True),
        (404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, True),
        (404, {"error": {"message": "Invalid URL (POST /v1/x)", "type": "invalid_request_error"}}, True),
        (404, {"error": {"message": "No model m-1", "type": "not_found_error"}}, False),
        (404, {"error": {"message": "No such model", "code": "model_not_found"}}, False),
        (404, {"error": {"message": "Item with id 'rs_1' not found.", "param": "input"}}, False),
        (404, {"error": {"message": "Response with id 'resp_1' not found.", "code": 404}}, False),
        (404, {"error": {"message": "No such File object: file-1"}}, False),
        (404, {"error": {"message": "the alias m-1-large has no endpoint"}}, True),
        (501, {"error": {"message": "This server does not support embeddings.", "code": 501}}, True),
        (400, {"error": {"message": "no"}}, False),
        (500, {}, False),
    ],
)
def test_an_error_about_the_path_is_told_from_others(status: int, body: Any, missing: bool) -> None:
    error = provider_dialect("openai_responses").read_error(status, {}, json.dumps(body).encode())
    assert is_missing_endpoint(error, ATTEMPT) == missing


@pytest.mark.parametrize(
    "dialect", ["openai_responses", "anthropic_count", "openai_embeddings", "openai_json", "gemini_count"]
)
@pytest.mark.parametrize(
    "body", [b"", b"404 page not found\n", b'{"detail":"Not Found"}', b"<html>404</html>"]
)
def test_bodies_of_web_servers_are_about_the_path_in_every_dialect(dialect: str, body: bytes) -> None:
    error = provider_dialect(dialect).read_error(404, {}, body)
    assert is_missing_endpoint(error, ATTEMPT), error


def test_it_is_remembered_for_an_hour_and_by_model() -> None:
    missing = MissingEndpoints()
    assert not missing.has(ATTEMPT, now=0.0)
    missing.add(ATTEMPT, now=5.0)
    assert missing.has(ATTEMPT, now=5.0 + REMEMBERED_S - 1)
    assert not missing.has(ATTEMPT, now=5.0 + REMEMBERED_S)
    assert not missing.has(msgspec.structs.replace(ATTEMPT, model="m-2"), now=6.0)
    assert repr(missing) == "<MissingEndpoints [('p', 'm-1', 'responses')]>"


def test_names_that_callers_invent_take_bounded_memory() -> None:
    missing = MissingEndpoints()
    for i in range(MAX_REMEMBERED + 1):
        missing.add(msgspec.structs.replace(ATTEMPT, model=f"m-{i}"), now=0.0)
    assert not missing.has(msgspec.structs.replace(ATTEMPT, model="m-0"), now=1.0)
    assert missing.has(msgspec.structs.replace(ATTEMPT, model=f"m-{MAX_REMEMBERED}"), now=1.0)
