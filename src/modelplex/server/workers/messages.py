"""What the supervisor and its workers say to each other, and how it is framed: a length of four
bytes, then msgpack. Does no I/O.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from modelplex.server.config_source import AgentOutcome

LENGTH = 4
"""Bytes of a frame's length."""
MAX_FRAME = 64 * 1024 * 1024
"""Bytes of a message: metrics of 500 series take about 5 MB, a config much less."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Worker: it serves its sockets."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Worker: it cannot start, for this reason."""

    sentence: str


class Applied(msgspec.Struct, frozen=True, tag=True):
    """Worker: it uses the last `NewConfig`."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: drain, then end. `now` ends the drain timeout."""

    now: bool = False


class NewConfig(msgspec.Struct, frozen=True, tag=True):
    """Supervisor: use this ConfigUpdate. It is pickled: only the supervisor sends one, and only
    workers read it.
    """

    pickled: bytes


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A worker asks all others for a view, for the caller `owner`, or for the host if it is "".
    `asker` is the asking worker; the supervisor forwards it.
    """

    id: int
    asker: int
    view: str
    owner: str = ""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The view of one worker, for the worker that asked; None from a worker that does not run."""

    id: int
    asker: int
    worker: int
    body: bytes | None


class StateMade(msgspec.Struct, frozen=True, tag=True):
    """A worker tells all others which provider and account made opaque states, by their hashes."""

    hashes: tuple[int, ...]
    provider: str
    account: str


class ChangeAgent(msgspec.Struct, frozen=True, tag=True):
    """A worker asks the supervisor to add the agent of this body, or without one to remove it."""

    id: int
    asker: int
    name: str
    body: bytes | None


class AgentChanged(msgspec.Struct, frozen=True, tag=True):
    """The supervisor's answer to the worker that asked: the outcome, or an error."""

    id: int
    outcome: AgentOutcome | None = None
    status: int = 500
    code: str = ""
    message: str = ""


Message: TypeAlias = (
    Ready | Failed | Applied | Stop | NewConfig | Ask | Answer | StateMade | ChangeAgent | AgentChanged
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class BadFrame(Exception):
    """What came is not a message. The connection is unusable then."""


def frame(message: Message) -> bytes:
    body = _encode(message)
    return len(body).to_bytes(LENGTH, "big") + body


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __repr__(self) -> str:
        return f"<Frames {len(self._data)} bytes>"

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are now complete. Raises BadFrame."""
        self._data += data
        found: list[Message] = []
        while len(self._data) >= LENGTH:
            size = int.from_bytes(self._data[:LENGTH], "big")
            if size > MAX_FRAME:
                raise BadFrame(f"a message of {size} bytes")
            if len(self._data) < LENGTH + size:
                break
            body = bytes(self._data[LENGTH : LENGTH + size])
            del self._data[: LENGTH + size]
            try:
                found.append(_decode(body))
            except msgspec.MsgspecError as error:
                raise BadFrame(str(error)) from None
        return found
