"""What the gateway says while the program runs."""

from __future__ import annotations

import os
import tty

from modelplex.sandbox.notices import MOST, Notices, is_taken
from modelplex.server.run_messages import RunNotice


def test_a_terminal_is_taken_by_a_program_that_reads_keys() -> None:
    master, slave = os.openpty()
    try:
        assert not is_taken(slave)
        tty.setcbreak(slave)
        assert is_taken(slave)
    finally:
        os.close(master)
        os.close(slave)
    read, write = os.pipe()
    assert not is_taken(read)
    os.close(read)
    os.close(write)


def test_notices_are_shown_at_once_or_at_the_end() -> None:
    shown: list[str] = []
    held = [False]
    notices = Notices(show=shown.append, is_held=lambda: held[0])
    notices.take([RunNotice("up", "a\x1b[2Jb")])
    assert shown == ["up: a\\x1b[2Jb"]
    held[0] = True
    notices.take([RunNotice("up", "401"), RunNotice("up", "401"), RunNotice("m", "silent")])
    assert len(shown) == 1
    notices.show_held()
    notices.show_held()
    assert shown[1:] == ["up: 401 (2 times)", "m: silent"]


def test_few_are_shown_at_the_end() -> None:
    shown: list[str] = []
    notices = Notices(show=shown.append, is_held=lambda: True)
    notices.take([RunNotice("up", str(number)) for number in range(MOST + 2)])
    notices.show_held()
    assert shown == [*(f"up: {number}" for number in range(2, MOST + 2)), "and 2 more before these"]
