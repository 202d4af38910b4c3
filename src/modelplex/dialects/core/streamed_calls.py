"""Assembles the tool calls of a response from their pieces.

A free-form tool may have been sent as a function with one string `input`: its text is known when
the call is complete. The arguments of the answer tool are the text of the response. Imports no
dialect.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, PartEnded, TextDelta, ToolArgumentsDelta
from modelplex.core.request import ProviderRequest
from modelplex.dialects.core.broken_responses import HALF_ARGUMENTS
from modelplex.dialects.core.json import as_object, decode_mended, parses

_decode = msgspec.json.Decoder().decode


class StreamedCall:
    """One tool call whose arguments arrive in pieces. `name` is the tool's name as it was sent to
    the provider, `free` whether the provider calls it with plain text.
    """

    __slots__ = ("as_text", "choice", "closed", "cut", "free", "part", "pieces", "wrapped")

    def __init__(
        self, name: str, written: ProviderRequest, *, part: int, choice: int = 0, free: bool = False
    ) -> None:
        self.part = part
        self.choice = choice
        self.pieces: list[str] = []
        self.free = free
        self.wrapped = name in written.free and not free
        self.as_text = name == written.answer_tool
        self.closed = False
        self.cut = False
        """The provider says that the call is incomplete, or sent more after its end."""

    def __repr__(self) -> str:
        return f"<StreamedCall {self.part} of {len(self.pieces)} pieces, closed={self.closed}>"

    @property
    def text(self) -> str:
        """What the model wrote so far."""
        return "".join(self.pieces)

    def add(self, text: str) -> Event | None:
        """The event of one more piece."""
        self.pieces.append(text)
        if self.closed:
            self.cut = self.cut or bool(text.strip())  # it was complete before
            return None
        if self.wrapped:
            return None
        if self.as_text:
            return TextDelta(self.part, text, self.choice)
        return ToolArgumentsDelta(self.part, text, self.choice)

    def is_whole(self, *, cut: bool) -> bool:
        """Whether the arguments are complete. `cut`: an output limit ended the response, so that
        empty arguments, plain text that was not closed, and what is no JSON may be incomplete.
        Otherwise the model wrote them so, and an agent tells it, so that it mends its call: "the
        model does not always generate valid JSON"
        (https://platform.openai.com/docs/api-reference/chat/object).
        """
        text = self.text
        if self.cut:
            return False
        if self.free or not text.strip():
            return not cut
        return not cut or parses(text)

    def close(self) -> list[Event]:
        """The last events of a call that is whole."""
        if self.closed:
            return []
        self.closed = True
        events: list[Event] = []
        if self.wrapped:
            if text := free_input(self.text):
                events.append(ToolArgumentsDelta(self.part, text, self.choice))
        elif not (self.free or self.as_text or self.text.strip()):
            events.append(ToolArgumentsDelta(self.part, "{}", self.choice))
        return [*events, PartEnded(self.part, self.choice)]


def close_calls(calls: Iterable[StreamedCall], *, cut: bool) -> tuple[list[Event], bool]:
    """The events that close the calls of a response, and whether all of them are whole. `cut`: an
    output limit ended the response. Raises UpstreamBroken for a call that the provider says is
    incomplete though no limit explains it.
    """
    events: list[Event] = []
    is_whole = True
    for call in calls:
        if call.closed and not call.cut:
            continue
        if call.is_whole(cut=cut):
            events += call.close()
        elif cut:
            is_whole = False
        else:
            raise UpstreamBroken(HALF_ARGUMENTS)
    return events, is_whole


def free_input(arguments: str) -> str:
    """The text of a free-form tool that was sent as a function with one string `input`. Where the
    model wrote something else, that is the text; of an empty object it is empty.
    """
    wrapper = as_object(decode_mended(arguments.encode("utf-8", "surrogatepass"), _decode))
    if wrapper is None:
        return arguments
    inner = wrapper.get("input")
    return inner if isinstance(inner, str) else arguments if wrapper else ""
