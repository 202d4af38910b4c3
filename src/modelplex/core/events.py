"""What is answered: the vocabulary that comes out, a closed union.

A wire's reader turns a provider's bytes into Events, a wire's writer turns Events into the client's
bytes; a whole (not streamed) answer is the same Events at once. Nothing here knows a dialect, a
provider or a socket. Match exhaustively, and end with `assert_never`.

The order of an answer is: one Began; then parts; then one Ended for each choice and one Measured,
in either order; or, at any place, one Failed, which is the last. A part is a run of events with the
same `part` number: numbers rise as parts begin, so that text, thinking and calls keep the order in
which the model made them. Parts of parallel calls may interleave. A writer that can have only one
open part holds the others back.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.request import OpaqueState


class Iteration(msgspec.Struct, frozen=True):
    """One of several samplings that a provider bills for one answer. `model` is "" where it is the
    answer's own; the counts are those of Usage.
    """

    model: str = ""
    fresh: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens that are billed, as the provider counted them. `output` includes `reasoning`; `input`
    parts are disjoint: fresh + cache_read + cache_write.

    `cache_write` is the whole; `cache_write_1h` that part of it that lives for an hour.
    `input_audio` and `input_image` are parts of `input`, `output_audio` and `output_image` of
    `output`. `estimated` is true where a part of it was counted by nobody. `iterations` make up the
    counts, where the provider tells them apart. `raw` is the provider's own usage object, unread,
    and `raw_of` the dialect it is in: the same dialect gets it back as it was.
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
    raw: msgspec.Raw | None = None
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
    "filter",  # a filter cut it
    "paused",  # a server-side turn paused
]


class ResponseStarted(msgspec.Struct, frozen=True):
    """The answer has begun. Carries no output. Empty strings where the provider says nothing."""

    id: str = ""
    model: str = ""
    created: int = 0
    usage: Usage | None = None
    tier: str | None = None
    fingerprint: str | None = None


class TextDelta(msgspec.Struct, frozen=True):
    """More text. `logprobs` is a JSON array of token entries in OpenAI's chat form, for
    this piece.
    """

    part: int
    text: str
    choice: int = 0
    logprobs: msgspec.Raw | None = None


class CitationAdded(msgspec.Struct, frozen=True):
    """A citation or annotation on the text part, as one JSON object in the form of `dialect`."""

    part: int
    raw: msgspec.Raw
    dialect: str
    choice: int = 0


class RefusalDelta(msgspec.Struct, frozen=True):
    """More of the model's own words for not answering."""

    part: int
    text: str
    choice: int = 0


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More reasoning. `summary` marks the provider's summary of it."""

    part: int
    text: str
    choice: int = 0
    summary: bool = False


class OpaqueStateReceived(msgspec.Struct, frozen=True):
    """The opaque state of the thinking part, or of the call part, with this number. It is whole,
    and replaces an earlier one of the part.

    `redacted` means that the part has no readable text at all.
    """

    part: int
    state: OpaqueState
    choice: int = 0
    redacted: bool = False


class ToolCallStarted(msgspec.Struct, frozen=True):
    """A client tool's call has begun. `id` is never empty: a reader makes "call_<n>" where the
    provider gave none.
    """

    part: int
    id: str
    name: str
    choice: int = 0
    free: bool = False
    namespace: str | None = None


class ToolArgumentsDelta(msgspec.Struct, frozen=True):
    """More of the arguments (JSON text, or plain text for a free-form tool) of the call part with
    this number. Never empty text.
    """

    part: int
    text: str
    choice: int = 0


class MediaOutput(msgspec.Struct, frozen=True):
    """An output that is neither text nor call (an image, audio), as one JSON object in the form of
    `dialect`. Another dialect names it as lost.
    """

    part: int
    raw: msgspec.Raw
    dialect: str
    choice: int = 0


class PartEnded(msgspec.Struct, frozen=True):
    """The part with this number is complete. A reader sends it where its dialect says so; a writer
    must do without it too.
    """

    part: int
    choice: int = 0


class UsageReported(msgspec.Struct, frozen=True):
    """What it took so far; a later one replaces an earlier one."""

    usage: Usage


class ResponseEnded(msgspec.Struct, frozen=True):
    """This choice is complete. `sequence` is the stop sequence that was hit; `detail` the refusal's
    details, a JSON object, unread.
    """

    reason: Reason
    choice: int = 0
    sequence: str | None = None
    detail: msgspec.Raw | None = None


class ResponseFailed(msgspec.Struct, frozen=True):
    """The answer broke. It is written as an error in the client's dialect and never as a normal
    end.
    """

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


class EmbeddingResponse(msgspec.Struct, frozen=True):
    """Vectors, in the order of the inputs. Each is floats, or base64 text of little-endian float32,
    as the provider gave it.
    """

    model: str
    vectors: tuple[tuple[float, ...] | str, ...]
    usage: Usage


class ListedModel(msgspec.Struct, frozen=True):
    """A model that a provider says it has. `created` is Unix seconds, 0 where it does not say."""

    id: str
    created: int = 0
