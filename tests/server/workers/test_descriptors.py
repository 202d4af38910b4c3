"""Sockets that are passed to a process that runs already."""

from __future__ import annotations

import os
import socket

import pytest

from modelplex.server.workers.descriptors import AT_ONCE, channel_pair, receive_sockets, send_sockets


def test_more_sockets_than_one_message_holds_arrive_in_their_order() -> None:
    ours, theirs = channel_pair()
    pairs = [socket.socketpair() for _ in range(AT_ONCE // 2 + 3)]
    sent = [end for pair in pairs for end in pair]
    send_sockets(ours, sent)
    got = receive_sockets(theirs, len(sent))
    assert [os.fstat(each.fileno()).st_ino for each in got] == [os.fstat(e.fileno()).st_ino for e in sent]
    assert all(not each.get_inheritable() for each in got)
    assert receive_sockets(theirs, 0) == []
    for each in (*sent, *got, ours, theirs):
        each.close()


def test_fewer_sockets_than_promised_are_an_error() -> None:
    ours, theirs = channel_pair()
    end, other = socket.socketpair()
    send_sockets(ours, [end])
    ours.close()
    with pytest.raises(OSError, match="fewer"):
        receive_sockets(theirs, 2)
    for each in (end, other, theirs):
        each.close()


def test_a_worker_that_takes_nothing_is_an_error_and_no_wait() -> None:
    ours, theirs = channel_pair()
    end, other = socket.socketpair()
    with pytest.raises(OSError):  # noqa: PT011 - by the limit that the kernel reaches first
        send_sockets(ours, [end] * 1_000_000)
    for each in (end, other, ours, theirs):
        each.close()
