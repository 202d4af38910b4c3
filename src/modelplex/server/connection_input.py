"""The input of a connection: read into one buffer of the process, or directly into the block of a
large body.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelplex.server.connection_limits import BodyPace, Lingering
from modelplex.server.connection_refusals import MAX_PIPELINED
from modelplex.server.flow_control import FlowControl

if TYPE_CHECKING:
    from modelplex.server.connection_refusals import ConnectionRefusal
    from modelplex.server.connection_registry import ConnectionRegistry
    from modelplex.server.http_exchange import HttpExchange
    from modelplex.server.request_reader import RequestReader


class ConnectionInput(FlowControl):
    """The incoming half of a Connection."""

    reader: RequestReader
    latest: HttpExchange
    """The exchange of the request that was or is read last."""

    def __init__(self, traffic: ConnectionRegistry) -> None:
        super().__init__(traffic.loop)
        self.traffic = traffic
        self.exchange_ended: Callable[[HttpExchange], None] = traffic.ended
        self.queue: deque[HttpExchange] = deque()
        """Exchanges that wait for the one before them."""
        self.queue_is_full = False
        self.ignores_input = False
        """Discard all input: the connection is ending."""
        self.lingering = Lingering()
        self.body_pace = BodyPace(traffic.limits)

    def queue_changed(self) -> None:
        self.queue_is_full = len(self.queue) >= MAX_PIPELINED

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        if self.reader.remaining and not self.ignores_input:
            view = self.latest.unfilled
            if view is not None:
                return view
        return self.traffic.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.ignores_input:
            self.data_received(bytes(self.traffic.read_buffer[:nbytes]))
            return
        if self.reader.remaining and self.latest.unfilled is not None:
            self.latest.body_filled(nbytes)
            self.body_pace.size += nbytes
            self.reader.body_read(nbytes)
        else:
            refusal = self.reader.feed(bytes(self.traffic.read_buffer[:nbytes]))
            if refusal is not None:
                self.refuse(refusal)
        self.input_read()

    def data_received(self, data: bytes) -> None:
        if self.ignores_input:
            self.lingering.discard(len(data))
            if self.lingering.is_too_much:
                self.transport.abort()
            return
        refusal = self.reader.feed(data)
        if refusal is not None:
            self.refuse(refusal)
        self.input_read()

    @abstractmethod
    def refuse(self, refusal: ConnectionRefusal) -> None:
        """Send this in place of a response, and close."""

    @abstractmethod
    def input_read(self) -> None:
        """Input was read: the app may run."""
