"""Estimated tokens of responses without usage."""

from __future__ import annotations

import msgspec
import pytest

from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.core import estimate
from modelplex.dialects.core.estimate import READ_LIMIT, billed, estimated, hidden_characters

ASK = RawRequest(
    "chat/completions", "openai_chat", "m", b"", {"messages": msgspec.Raw(b'[{"content":"abcdefgh"}]')}
)


def test_output_after_the_last_count_is_estimated_and_the_larger_counts() -> None:
    early = Usage(fresh=50, output=1, raw=b"{}", raw_of="anthropic_messages")
    late = billed(ASK, early, characters=2000, counted_at=0)
    assert (late.fresh, late.output, late.estimated, late.raw) == (50, 500, True, None)
    assert billed(ASK, early, characters=2000, counted_at=2000) is early
    assert billed(ASK, early, characters=4, counted_at=0) is early
    assert billed(ASK, Usage(output=1), characters=400, counted_at=0).fresh == 2
    assert billed(ASK, None, characters=400, counted_at=0) == Usage(fresh=2, output=100, estimated=True)


@pytest.mark.parametrize("mark", ['"url":"data:image/png;base64,', '"type":"base64","data":"', '"data" : "'])
def test_a_long_prompt_is_estimated_by_its_bytes_without_pictures(mark: str) -> None:
    def about(messages: str) -> int:
        ask = msgspec.structs.replace(ASK, fields={"messages": msgspec.Raw(messages.encode())})
        return estimated(ask, characters=0).fresh

    text = "word " * READ_LIMIT
    plain = about('[{"role":"user","content":"' + text + '"}]')
    assert plain == pytest.approx(len(text) / 4, rel=0.01)
    picture = "A" * 4_000_000
    assert about('[{"content":"' + text + '"},{' + mark + picture + '"}]') == pytest.approx(plain, rel=0.01)
    assert about('[{"content":"' + text + '"},{' + mark + picture) == pytest.approx(plain, rel=0.01)


@pytest.mark.parametrize("mark", ['"url":"data:image/png;base64,', '"type":"base64","data":"', '"data" : "'])
def test_a_mark_between_two_slices_is_found(monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    slice_, picture, end = 256, "A" * 700, '"},{"data":7,"text":"' + "w" * 40 + '"}]'
    monkeypatch.setattr(estimate, "SLICE", slice_)
    monkeypatch.setattr(estimate, "READ_LIMIT", 100)
    for before in range(2 * slice_):
        start = '[{"content":"' + "w" * before + '"},{' + mark
        raw = msgspec.Raw((start + picture + end).encode())
        expected = -(-(len(start) + len(end)) // 4)
        told = estimated(msgspec.structs.replace(ASK, fields={"messages": raw}), characters=0).fresh
        assert told == expected, before


@pytest.mark.parametrize(
    ("member", "value", "tokens"),
    [
        ("messages", b'[{"role":"user","content":"abcdefgh"}]', 2),
        ("prompt", b'"abcdefghi"', 3),
        ("prompt", b"[1,2,3,4,5]", 5),
        ("contents", b'[{"parts":[{"text":"abcd"},{"inlineData":{"data":"QUJDREVGR0g="}}]}]', 1),
        ("messages", b'[{"content":[{"type":"redacted_thinking","data":"QUJDREVGR0g="}]}]', 0),
        ("messages", b"[tru", 1),
        ("temperature", b'"abcdefgh"', 0),
    ],
)
def test_the_texts_and_token_ids_of_a_prompt_count(member: str, value: bytes, tokens: int) -> None:
    raw_request = msgspec.structs.replace(ASK, fields={member: msgspec.Raw(value)})
    assert estimated(raw_request, characters=0) == Usage(fresh=tokens, output=0, estimated=True)


def test_a_request_inside_a_count_is_the_prompt() -> None:
    inner = msgspec.Raw(b'{"contents":[{"parts":[{"text":"abcdefgh"}]}]}')
    raw_request = msgspec.structs.replace(ASK, fields={"generateContentRequest": inner})
    assert estimated(raw_request, characters=0).fresh == 2


def test_opaque_state_counts_as_the_reasoning_it_encrypts() -> None:
    assert hidden_characters("A" * 400) == 300
