"""A channel for tests: keeps what is sent, and the test plays the server."""

from modelplex.mcp.constants import Json
from modelplex.mcp.servers.channel import DuplexChannel


class FakeChannel(DuplexChannel):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Json] = []
        self.closed = False
        self.open_error: Exception | None = None

    async def open(self) -> None:
        if self.open_error is not None:
            raise self.open_error

    async def send(self, message: Json) -> None:
        self.sent.append(message)

    def send_soon(self, message: Json) -> None:
        self.sent.append(message)

    async def close(self) -> None:
        self.closed = True
        self.fail("It was closed.")
