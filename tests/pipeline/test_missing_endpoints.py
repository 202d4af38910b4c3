"""What says that an endpoint is missing, and how long it is remembered."""

import json
from typing import Any

import pytest

from modelplex.core.request import Attempt
from modelplex.dialects.registry import provider_dialect
from modelplex.pipeline.missing_endpoints import REMEMBERED_S, MissingEndpoints, is_missing_endpoint

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
        (400, {"error": {"message": "no"}}, False),
        (500, {}, False),
    ],
)
def test_an_error_about_the_path_is_told_from_others(status: int, body: Any, missing: bool) -> None:
    error = provider_dialect("openai_responses").read_error(status, {}, json.dumps(body).encode())
    assert is_missing_endpoint(error, ATTEMPT) == missing


def test_it_is_remembered_for_an_hour() -> None:
    missing = MissingEndpoints()
    assert not missing.has(ATTEMPT, now=0.0)
    missing.add(ATTEMPT, now=5.0)
    assert missing.has(ATTEMPT, now=5.0 + REMEMBERED_S - 1)
    assert not missing.has(ATTEMPT, now=5.0 + REMEMBERED_S)
    assert repr(missing) == "<MissingEndpoints [('p', 'responses')]>"
