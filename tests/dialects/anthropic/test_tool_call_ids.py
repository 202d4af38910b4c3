"""Ids of calls lead back to those of the provider."""

import pytest

from modelplex.dialects.anthropic.tool_call_ids import PACKED, call_id, given_id, message_id


@pytest.mark.parametrize(
    "given", ["", "a", "call_1", "call:1", "ü", "\ud83d", "a b", PACKED, f"{PACKED}MDph", "x" * 500]
)
@pytest.mark.parametrize("times", [0, 1, 12])
def test_an_id_is_accepted_and_leads_back(given: str, times: int) -> None:
    sent = call_id(given, times=times)
    assert given_id(sent) == given
    assert sent.replace("_", "").replace("-", "").isascii()
    assert all(letter.isalnum() or letter in "_-" for letter in sent)


def test_an_id_that_is_accepted_stays_the_first_time() -> None:
    assert call_id("toolu_1", times=0) == "toolu_1"
    assert len({call_id("toolu_1", times=times) for times in range(5)}) == 5


@pytest.mark.parametrize("sent", [f"{PACKED}!", f"{PACKED}eA", f"{PACKED}eDp5", "toolu_1"])
def test_what_was_not_packed_stays(sent: str) -> None:
    assert given_id(sent) == sent


def test_a_responses_id_has_the_prefix() -> None:
    assert message_id("msg_1") == "msg_1"
    assert message_id("chatcmpl-1.x") == "msg_chatcmpl-1_x"
