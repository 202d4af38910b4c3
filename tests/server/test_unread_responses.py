"""Which connections are aborted since their clients do not read."""

from __future__ import annotations

from typing import Any, cast

from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_shares import ConnectionPlace, ConnectionShares, bounds
from modelplex.server.unread_responses import UnreadResponses

LIMITS = ConnectionLimits(unread_timeout=100, unread_grace=5, unread_connections=2, unread_bytes=1000)


class Transport:
    def __init__(self, size: int) -> None:
        self.size = size

    def get_write_buffer_size(self) -> int:
        return self.size


class Connection:
    """A connection with unsent bytes. An abort removes it, as of the real one."""

    def __init__(
        self, unread: UnreadResponses, shares: ConnectionShares, caller: str = "a", *, size: int = 10
    ) -> None:
        self._unread = unread
        self.buffer = Transport(size)
        self.transport = cast("Any", self.buffer)
        self.place = ConnectionPlace(shares)
        self.aborted = ""
        assert self.place.take(self, caller=caller, listener="l", over_http=False) is None

    def make_room(self) -> bool:
        return False

    def abort(self, reason: str) -> None:
        self.aborted = reason
        self._unread.remove(self)


def waiting(*callers: str, size: int = 10) -> tuple[UnreadResponses, list[Connection]]:
    """A connection of each caller whose response has waited since 0.0."""
    unread, shares = UnreadResponses(LIMITS), ConnectionShares(bounds(100))
    connections = [Connection(unread, shares, caller, size=size) for caller in callers]
    for each in connections:
        unread.add(each, now=0.0)
    return unread, connections


def aborted(connections: list[Connection]) -> list[bool]:
    return [bool(each.aborted) for each in connections]


def test_a_client_that_reads_nothing_for_the_timeout_is_disconnected() -> None:
    unread, (connection,) = waiting("a")
    unread.abort_expired(99.9)
    assert not connection.aborted
    unread.abort_expired(100.0)
    assert "read nothing of a response for 100 s" in connection.aborted
    assert len(unread) == 0


def test_a_client_that_reads_slowly_is_not() -> None:
    unread, (connection,) = waiting("a")
    for now in (60.0, 120.0, 180.0):
        connection.buffer.size -= 1
        unread.abort_expired(now)
    assert not connection.aborted
    connection.buffer.size += 5  # more output is not reading
    unread.abort_expired(280.0)
    assert connection.aborted


def test_the_oldest_above_the_number_of_one_caller_are_aborted_after_the_grace() -> None:
    unread, connections = waiting("a", "a", "b", "a", "a")
    unread.abort_expired(4.9)
    assert not any(aborted(connections))
    unread.abort_expired(5.0)
    assert aborted(connections) == [True, True, False, False, False]
    assert "too many responses unread" in connections[0].aborted


def test_the_oldest_above_the_bytes_of_one_caller_are_aborted() -> None:
    unread, connections = waiting("a", "a", "b", size=600)
    unread.abort_expired(5.0)
    assert aborted(connections) == [True, False, False]


def test_a_single_response_above_the_bytes_is_aborted() -> None:
    unread, connections = waiting("a", "b", size=1001)
    unread.abort_expired(5.0)
    assert aborted(connections) == [True, True]


def test_a_connection_whose_place_is_released_has_only_the_timeout() -> None:
    unread, connections = waiting("a", "a", "a")
    for each in connections:
        each.place.release(each)
    unread.abort_expired(50.0)
    assert not any(aborted(connections))
    unread.abort_expired(100.0)
    assert all(aborted(connections))


def test_a_response_that_was_read_is_forgotten() -> None:
    unread, (connection,) = waiting("a")
    assert unread
    unread.remove(connection)
    unread.remove(connection)
    unread.abort_expired(1000.0)
    assert not connection.aborted
    assert not unread
