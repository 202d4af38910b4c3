"""A run's connection to its gateway; server/test_run_control.py has a real gateway."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from modelplex.records.store_sink import RunInfo
from modelplex.sandbox.run_link import RunLink, connect
from modelplex.server.run_messages import RunEnded, RunNotice, RunReply, RunRequest

REQUEST = RunRequest(path="/s", run=RunInfo(id="r", started=1.0, command="x" * 500_000))


def test_a_long_request_comes_whole_with_its_socket() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_000_000)
    with theirs, socket.socket(socket.AF_UNIX) as listener:
        link = RunLink(ours)
        link.send(REQUEST, listener)
        data, passed, _, _ = socket.recv_fds(theirs, 1_000_000, 1)
        while not data.endswith(b"\n"):
            data += theirs.recv(1_000_000)
        assert len(passed) == 1
        assert len(data) > 500_000
        socket.socket(fileno=passed[0]).close()
        link.close()


def test_what_the_gateway_says_is_read_by_lines() -> None:
    ours, theirs = socket.socketpair()
    link = RunLink(ours)
    theirs.sendall(b'{"type":"reply","pid":7}\n{"type":"notice","what":"up",')
    link.read(wait_s=5.0)
    assert link.reply == RunReply(pid=7)
    assert not link.notices
    theirs.sendall(b'"why":"401"}\n')
    theirs.sendall(b'{"type":"ended","is_last":true}\n')
    theirs.close()
    link.leave(timeout_s=5.0)
    assert link.take_notices() == [RunNotice("up", "401")]
    assert link.take_notices() == []
    assert link.ended == RunEnded(is_last=True)
    assert link.is_over
    link.close()


def test_a_signal_comes_with_what_there_is_to_read() -> None:
    ours, theirs = socket.socketpair()
    link = RunLink(ours)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    try:
        link.signal_with(signal.SIGIO)
        assert signal.sigtimedwait({signal.SIGIO}, 0) is None
        theirs.sendall(b'{"type":"notice","what":"up","why":"x"}\n')
        assert signal.sigtimedwait({signal.SIGIO}, 5) is not None
        link.no_signals()
        theirs.sendall(b'{"type":"notice","what":"up","why":"y"}\n')
        link.read()
        assert signal.sigtimedwait({signal.SIGIO}, 0) is None
    finally:
        signal.sigtimedwait({signal.SIGIO}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        link.close()


def test_there_may_be_no_gateway(tmp_path: Path) -> None:
    assert connect(str(tmp_path / "none.runs")) is None
