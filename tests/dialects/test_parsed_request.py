"""What a body may refer to, by the Dialect value of its client."""

import pytest

from modelplex.core.request import OpaqueState, RawRequest
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.parsed_request import holds_envelopes, may_hold_opaque_state, may_name_stored_state
from modelplex.dialects.registry import FORMS


def ask(dialect: str, body: bytes) -> RawRequest:
    return RawRequest("chat/completions", dialect, "m", body, {})


@pytest.mark.parametrize("dialect", ["gemini", "gemini_array"])
def test_an_envelope_is_seen_in_both_framings_of_a_dialect(dialect: str) -> None:
    assert holds_envelopes(ask(dialect, b'{"contents":[{"parts":[{"thoughtSignature":"bXB4MS5hYmM="}]}]}'))


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages", "ollama"])
def test_an_envelope_is_seen_in_a_conversation(dialect: str) -> None:
    sealed = wrap(OpaqueState("unknown", "data")).encode()
    assert holds_envelopes(ask(dialect, b'{"a":"' + sealed + b'"}'))


@pytest.mark.parametrize(
    "dialect", ["openai_embeddings", "openai_completions", "openai_json", "gemini_embed"]
)
def test_a_text_that_reads_like_a_member_is_none_in_a_body_that_refers_to_nothing(dialect: str) -> None:
    body = b'{"input":["audio","file_id","fileData","thoughtSignature","reasoning_details"]}'
    assert not may_name_stored_state(ask(dialect, body))
    assert not may_hold_opaque_state(ask(dialect, body))
    family = FORMS[dialect].family.name
    assert may_name_stored_state(ask(family, body))
    assert may_hold_opaque_state(ask(family, body))
