"""Token ids and log probabilities in chat responses, kept for the record.

vLLM has `prompt_token_ids` and `choices[].token_ids`, SGLang has both in the choice, llama.cpp an
`id` in each entry of `logprobs` (sources: providers/compatible.toml). Imports no other dialect.
"""

from __future__ import annotations

from typing import Final

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.core.json import ABSENT, MALFORMED, decode_mended, encode
from modelplex.dialects.core.sse import SseReader

MAX_READ: Final = 16_777_216
"""Bytes of events with tokens that are read: as much as is stored of a response."""
_NOTHING: Final = frozenset({b"", b"null", b"[]"})


class _Logprobs(msgspec.Struct, gc=False):
    content: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    token_ids: list[int] | None = None
    prompt_token_ids: msgspec.Raw = ABSENT
    logprobs: _Logprobs | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    prompt_token_ids: msgspec.Raw = ABSENT


class _Entry(msgspec.Struct, gc=False):
    id: int | None = None


class ChoiceTokens(msgspec.Struct, omit_defaults=True, gc=False):
    """Of one choice, in order. `logprobs` are entries as the provider wrote them."""

    index: int
    token_ids: list[int] = []
    logprobs: list[msgspec.Raw] = []


class KeptTokens(msgspec.Struct, omit_defaults=True, gc=False):
    """What the record has. `cut`: more came than is kept."""

    prompt_token_ids: msgspec.Raw = ABSENT
    choices: list[ChoiceTokens] = []
    cut: bool = False


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


class ChatTokens:
    """TokenReader of chat completions."""

    def __init__(self) -> None:
        self._events = SseReader()
        self._prompt = b""
        self._choices: dict[int, ChoiceTokens] = {}
        self._read_bytes = 0
        self._is_cut = False

    def __repr__(self) -> str:
        return f"<ChatTokens {len(self._choices)} choices, {self._read_bytes} bytes>"

    def feed(self, data: bytes) -> None:
        if self._is_cut:
            return
        try:
            events = self._events.feed(data)
        except UpstreamBroken:
            self._is_cut = True
            return
        for event in events:
            self._read(event.data)

    def whole(self, body: bytes) -> None:
        if body.lstrip()[:1] == b"{":
            self._read(body)
        else:
            self.feed(body)

    def kept(self) -> bytes | None:
        self.feed(b"\n\n")  # the last blank line may be missing
        if not self._prompt and not self._choices:
            return None
        choices = [self._choices[index] for index in sorted(self._choices)]
        for choice in choices:
            choice.token_ids = choice.token_ids or _ids_of(choice.logprobs)
        prompt = msgspec.Raw(self._prompt) if self._prompt else ABSENT
        return encode(KeptTokens(prompt, choices, self._is_cut))

    def _read(self, data: bytes) -> None:
        chunk = decode_mended(data, _decode) if data.lstrip()[:1] == b"{" else None
        if chunk is None or self._is_cut:
            return
        has_tokens = self._read_prompt(chunk.prompt_token_ids)
        for given in chunk.choices or ():
            has_tokens |= self._read_prompt(given.prompt_token_ids)
            entries = (given.logprobs.content if given.logprobs is not None else None) or ()
            if not given.token_ids and not entries:
                continue
            has_tokens = True
            choice = self._choices.setdefault(given.index or 0, ChoiceTokens(given.index or 0, [], []))
            choice.token_ids += given.token_ids or ()
            choice.logprobs += [msgspec.Raw(bytes(entry)) for entry in entries]
        if has_tokens:
            self._read_bytes += len(data)
            self._is_cut = self._read_bytes > MAX_READ

    def _read_prompt(self, ids: msgspec.Raw) -> bool:
        given = bytes(ids)
        if given in _NOTHING:
            return False
        self._prompt = self._prompt or given
        return True


def _ids_of(entries: list[msgspec.Raw]) -> list[int]:
    """The ids in the entries; none unless each has one."""
    try:
        ids = [_decode_entry(entry).id for entry in entries]
    except MALFORMED:
        return []
    found = [each for each in ids if each is not None]
    return found if len(found) == len(ids) else []
