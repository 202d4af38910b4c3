"""Rules of error bodies that all dialects share."""

from modelplex.core.errors import (
    BadRequest,
    GatewayFault,
    ModelplexError,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
)
from modelplex.dialects.core.error_bodies import forwarded_body, message_with_id, provider_message

OWN = UpstreamReply(status=400, body=b'{"error":1}')


def test_only_an_own_error_about_the_client_is_forwarded() -> None:
    def body_of(error: ModelplexError, *, own: bool = True) -> bytes | None:
        return forwarded_body(error, is_own=lambda _: own)

    assert body_of(BadRequest("No.", upstream=OWN)) == OWN.body
    assert body_of(BadRequest("No.", upstream=OWN), own=False) is None
    assert body_of(RateLimited("No.", upstream=OWN)) is None
    assert body_of(BadRequest("No.")) is None


def test_a_fault_of_the_gateway_names_the_request() -> None:
    assert message_with_id(GatewayFault("It broke."), "r1") == "It broke. (request r1)"
    assert message_with_id(GatewayFault("It broke."), "") == "It broke."
    assert message_with_id(UpstreamBroken("It broke."), "r1") == "It broke."


def test_a_message_about_the_key_is_left_out() -> None:
    text = provider_message(UpstreamAuth, 401, "Incorrect API key provided: sk-12345")
    assert "sk-12345" not in text
    assert text.startswith("The provider answered 401: it rejected the API key")


def test_a_message_has_the_status_unless_the_client_is_at_fault() -> None:
    assert provider_message(BadRequest, 400, "Bad model.") == "Bad model."
    assert provider_message(BadRequest, 400, "") == "The provider answered 400."
    assert provider_message(UpstreamBroken, 500, "Oops.") == "The provider answered 500: Oops."
    assert provider_message(UpstreamBroken, 0, "") == "The provider's answer is an error."
    assert len(provider_message(UpstreamBroken, 500, "x" * 10_000)) < 600
