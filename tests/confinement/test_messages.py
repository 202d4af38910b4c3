"""Packets between a gateway and its launcher."""

from __future__ import annotations

import os
import socket

import msgspec
import pytest

from modelplex.confinement.messages import (
    REPLIES,
    REQUESTS,
    FindProcesses,
    LauncherReply,
    LauncherRequest,
    SocketBound,
    StartProgram,
    command_key,
    receive,
    send,
)


@pytest.mark.parametrize("message", [StartProgram("key", "mark"), FindProcesses("m", 1, {2: "3"})])
def test_a_request_arrives_with_its_descriptors(message: LauncherRequest) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    with ours, theirs:
        send(ours, message, [reader])
        os.close(reader)
        data, (passed,) = receive(theirs)
        assert REQUESTS.decode(data) == message
        os.write(writer, b"x")
        assert os.read(passed, 1) == b"x"
        assert not os.get_inheritable(passed)
    for each in (passed, writer):
        os.close(each)


def test_a_reply_is_read_and_the_end_is_empty() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reply: LauncherReply = SocketBound("hidden", (1, 2))
    with theirs:
        with ours:
            send(ours, reply)
        assert REPLIES.decode(receive(theirs)[0]) == reply
        assert receive(theirs) == (b"", [])


def test_a_request_of_another_kind_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        REQUESTS.decode(b'{"type":"run","argv":["true"]}')


def test_each_part_of_a_command_changes_its_key() -> None:
    keys = {
        command_key(["a", "b"], None, None),
        command_key(["ab"], None, None),
        command_key(["a", "b"], {}, None),
        command_key(["a", "b"], {"X": "1"}, None),
        command_key(["a", "b"], {"X": "1"}, "/"),
    }
    assert len(keys) == 5
    assert command_key(("a",), {"X": "1", "Y": "2"}, None) == command_key(["a"], {"Y": "2", "X": "1"}, None)
