"""A worker's connection to the supervisor."""

from __future__ import annotations

import asyncio
import socket

from modelplex.server.workers.link import SupervisorLink
from modelplex.server.workers.messages import Frames, Message, Ready, Stop, frame


class Ends:
    """A link, what it received, and whether it was lost."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.theirs = theirs
        self.got: list[Message] = []
        self.lost = asyncio.Event()
        self.came = asyncio.Event()
        self.link = SupervisorLink(receive=self._receive, lost=self.lost.set)

    def _receive(self, message: Message) -> None:
        self.got.append(message)
        self.came.set()


async def test_messages_go_both_ways_until_the_supervisor_ends() -> None:
    ends = Ends()
    await ends.link.open(ends.theirs)
    ends.link.send(Ready())
    ends.ours.setblocking(False)
    async with asyncio.timeout(10):
        data = await asyncio.get_running_loop().sock_recv(ends.ours, 100)
        assert Frames().feed(data) == [Ready()]
        ends.ours.sendall(frame(Stop()) + frame(Stop(now=True)))
        while len(ends.got) < 2:
            ends.came.clear()
            await ends.came.wait()
        assert ends.got == [Stop(), Stop(now=True)]
        ends.ours.close()
        await ends.lost.wait()
    ends.link.send(Ready())


async def test_what_is_no_message_ends_the_connection() -> None:
    ends = Ends()
    await ends.link.open(ends.theirs)
    ends.ours.sendall(b"\xff" * 8)
    async with asyncio.timeout(10):
        await ends.lost.wait()
    assert ends.got == []
    ends.ours.close()


async def test_a_closed_connection_is_not_a_lost_one() -> None:
    ends = Ends()
    await ends.link.close()
    await ends.link.open(ends.theirs)
    async with asyncio.timeout(10):
        await ends.link.close()
    assert not ends.lost.is_set()
    assert ends.ours.recv(1) == b""
    ends.ours.close()
