"""What of a provider's error a caller reads."""

from __future__ import annotations

import json

import pytest

from modelplex.core.errors import BadRequest, ModelplexError, UpstreamBroken, UpstreamReply
from modelplex.pipeline.error_redaction import redact_error, redact_last_event


def _hide(text: bytes) -> bytes:
    return text.replace(b"sk-secret", b"***")


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("kind", [BadRequest, UpstreamBroken])
def test_no_caller_reads_a_key_and_a_sealed_one_no_address(kind: type[ModelplexError], sealed: bool) -> None:
    text = "sk-secret failed at http://10.0.0.5:8000/v1 <html><body>Bad</body>"
    body = json.dumps({"error": {"message": text}}).encode()
    error = kind(text, code="sk-secret", param="sk-secret", upstream=UpstreamReply(status=400, body=body))
    redact_error(error, _hide, sealed=sealed)
    assert error.upstream.body is not None
    for shown in (error.message, str(error), error.code, error.param, error.upstream.body.decode()):
        assert "sk-secret" not in str(shown)
        assert "<html>" not in str(shown)
    may_read = not sealed and kind is BadRequest
    assert ("10.0.0.5" in error.message) == may_read
    assert (b"10.0.0.5" in error.upstream.body) == (not sealed)
    assert error.upstream.status == 400


def test_only_the_last_event_is_redacted() -> None:
    text = b'data: {"delta":"see http://10.0.0.5:8000/"}\n\n'
    error = b'data: {"error":{"message":"no http://10.0.0.5:8000/"}}\n\n'
    out = redact_last_event(text + error)
    assert out.startswith(text)
    assert b"10.0.0.5" not in out[len(text) :]


def test_a_line_of_json_is_an_event() -> None:
    out = redact_last_event(b'{"response":"http://10.0.0.5:80/"}\n{"error":"http://10.0.0.5:80/"}\n')
    assert out.count(b"10.0.0.5") == 1


def test_the_response_in_a_failed_event_keeps_the_models_words() -> None:
    response = {
        "output": [{"text": "http://10.0.0.5:8000/"}],
        "error": {"message": "no http://10.0.0.6:8000/"},
    }
    event = (
        b"event: response.failed\ndata: "
        + json.dumps({"type": "response.failed", "response": response}).encode()
    )
    out = redact_last_event(event + b"\n\n")
    assert b"10.0.0.5" in out
    assert b"10.0.0.6" not in out
