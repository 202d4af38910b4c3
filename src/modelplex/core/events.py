"""The events of a response, a closed union.

A dialect's reader turns a provider's bytes into events, a dialect's writer turns events into the
client's bytes. A whole response is the same events at once. Match exhaustively, and end with
`assert_never`. Imports no dialect and no provider.

The order is: one ResponseStarted; then parts; then one ResponseEnded for each choice and one
UsageReported, in any order; or, at any place, one ResponseFailed, which is the last. A part is a
run of events with the same `part` number. Numbers rise as parts begin, so text, reasoning and calls
keep the order in which the model made them. Parts of parallel calls may interleave; a writer that
can have one open part holds the others back.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.request import OpaqueState


class Iteration(msgspec.Struct, frozen=True, gc=False):
    """One of several samplings that a provider bills for one response. `model` is "" for the
    response's own model; the counts are those of Usage.
    """

    model: str = ""
    fresh: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Billed tokens, as the provider counted them. `input` is fresh + cache_read + cache_write;
    `output` includes `reasoning`.

    `cache_write_1h` is the part of `cache_write` that lives for an hour. `input_audio` and
    `input_image` are parts of `input`, `output_audio` and `output_image` of `output`. `estimated`:
    a part was not counted by the provider. `iterations` add up to the counts, where the provider
    reports them. `raw` is the provider's usage object, JSON, and `raw_of` its dialect: a
    client of that dialect gets it unchanged.
    """

    fresh: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_audio: int = 0
    output_image: int = 0
    web_searches: int = 0
    estimated: bool = False
    iterations: tuple[Iteration, ...] = ()
    raw: bytes | None = None
    raw_of: str | None = None

    @property
    def input(self) -> int:
        """All input tokens, cached ones included."""
        return self.fresh + self.cache_read + self.cache_write


Reason = Literal[
    "stop",  # natural end
    "stop_sequence",
    "length",  # output limit
    "context",  # context window full
    "tool_calls",  # at least one client tool call
    "refusal",  # the model refused
    "filter",  # a content filter cut it
    "paused",  # a turn with server-side tools paused
]


class ResponseStarted(msgspec.Struct, frozen=True, gc=False):
    """The response has begun. No output. Empty strings where the provider sent none."""

    id: str = ""
    model: str = ""
    created: int = 0
    usage: Usage | None = None
    tier: str | None = None
    fingerprint: str | None = None


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """More text. `logprobs` is a JSON array of its token entries in OpenAI's chat form."""

    part: int
    text: str
    choice: int = 0
    logprobs: msgspec.Raw | None = None


class CitationAdded(msgspec.Struct, frozen=True, gc=False):
    """A citation or annotation on the text part, as one JSON object in the form of `dialect`."""

    part: int
    raw: msgspec.Raw
    dialect: str
    choice: int = 0


class RefusalDelta(msgspec.Struct, frozen=True, gc=False):
    """More of the text with which the model refuses."""

    part: int
    text: str
    choice: int = 0


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """More reasoning. `summary` marks the provider's summary of it."""

    part: int
    text: str
    choice: int = 0
    summary: bool = False


class OpaqueStateReceived(msgspec.Struct, frozen=True, gc=False):
    """The opaque state of a reasoning or call part: whole, and instead of an earlier one.
    `redacted`: the part has no readable text.
    """

    part: int
    state: OpaqueState
    choice: int = 0
    redacted: bool = False


class ToolCallStarted(msgspec.Struct, frozen=True, gc=False):
    """A call of a client's tool has begun. `id` is never empty: a reader makes "call_<n>" where the
    provider sent none. `free`: the arguments are plain text.
    """

    part: int
    id: str
    name: str
    choice: int = 0
    free: bool = False
    namespace: str | None = None


class ToolArgumentsDelta(msgspec.Struct, frozen=True, gc=False):
    """More of a call's arguments, as JSON text, or plain text for a free-form tool. Never empty."""

    part: int
    text: str
    choice: int = 0


class MediaOutput(msgspec.Struct, frozen=True, gc=False):
    """An output that is neither text nor call (an image, audio), as one JSON object in the form of
    `dialect`. Writers of other dialects report it as lost.
    """

    part: int
    raw: msgspec.Raw
    dialect: str
    choice: int = 0


class PartEnded(msgspec.Struct, frozen=True, gc=False):
    """The part is complete. Sent only where the provider's dialect says so."""

    part: int
    choice: int = 0


class UsageReported(msgspec.Struct, frozen=True, gc=False):
    """The usage so far; replaces an earlier report."""

    usage: Usage


class ResponseEnded(msgspec.Struct, frozen=True, gc=False):
    """This choice is complete. `sequence` is the stop sequence that was hit, `detail` the details
    of a refusal as a JSON object, undecoded.
    """

    reason: Reason
    choice: int = 0
    sequence: str | None = None
    detail: msgspec.Raw | None = None


class ResponseFailed(msgspec.Struct, frozen=True, gc=False):
    """The response broke. Written as an error in the client's dialect, never as a normal end."""

    error: ModelplexError


ContentEvent = (
    TextDelta
    | CitationAdded
    | RefusalDelta
    | ReasoningDelta
    | OpaqueStateReceived
    | ToolCallStarted
    | ToolArgumentsDelta
    | MediaOutput
)
"""What a response holds. The first of these, except a citation, is the commit point."""

Event = ResponseStarted | ContentEvent | PartEnded | UsageReported | ResponseEnded | ResponseFailed


class EmbeddingResponse(msgspec.Struct, frozen=True, gc=False):
    """Vectors in the order of the inputs. Each is floats, or base64 of little-endian float32, as
    the provider sent it.
    """

    model: str
    vectors: tuple[tuple[float, ...] | str, ...]
    usage: Usage


class ListedModel(msgspec.Struct, frozen=True, gc=False):
    """A model in a provider's list. `created` is Unix seconds, 0 where unknown."""

    id: str
    created: int = 0
