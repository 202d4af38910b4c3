from __future__ import annotations

import asyncio
import os
import pty
import sys
import threading
import webbrowser
from collections.abc import Generator
from typing import TextIO

import pytest

from modelplex.mcp.oauth.terminal import login_terminal

DISPLAYS = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Generator[list[str]]:
    """What the browser opens."""
    addresses: list[str] = []
    done = threading.Event()

    def take(address: str) -> None:
        addresses.append(address)
        done.set()

    monkeypatch.setattr(webbrowser, "open", take)
    for name in DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    yield addresses
    if addresses:
        assert done.wait(10)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    """Writes what a person types."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> Generator[TextIO]:
    with open(os.devnull) as stdin:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdin", stdin)
        yield stdin


@pytest.mark.parametrize("display", DISPLAYS)
def test_a_browser_opens_where_there_is_a_display(
    monkeypatch: pytest.MonkeyPatch, opened: list[str], display: str, no_terminal: TextIO
) -> None:
    monkeypatch.setenv(display, "x")
    threads = set(threading.enumerate())
    login_terminal(browser=True).open("https://a/")
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert opened == ["https://a/"]


def test_no_browser_opens_without_a_display_or_against_the_will(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    login_terminal(browser=True).open("https://a/")
    monkeypatch.setenv("DISPLAY", ":0")
    login_terminal(browser=False).open("https://a/")
    assert opened == []


def test_only_stderr_shows_the_address_and_the_code(
    capsys: pytest.CaptureFixture[str], no_terminal: TextIO
) -> None:
    show = login_terminal(browser=False).show
    show("https://a/", "")
    show("https://a/device", "AB-CD")
    show("", "")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "Open this address in a browser:\n\n  https://a/\n\n"
        "Open this address in any browser:\n\n  https://a/device\n\nand enter the code AB-CD\n\n"
        "That is not the address at which this sign-in ends. It begins with http://127.0.0.1:\n"
    )


def test_what_a_server_names_moves_no_cursor(capsys: pytest.CaptureFixture[str], no_terminal: TextIO) -> None:
    login_terminal(browser=False).show("https://a/\x1b[2J\n\u202e", "\x1b]0;x\x07" + "y" * 500)
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert len(said) < 400


def test_a_long_address_is_shown_whole(capsys: pytest.CaptureFixture[str], no_terminal: TextIO) -> None:
    address = "https://a/?state=" + "x" * 5_000
    login_terminal(browser=False).show(address, "")
    assert f"  {address}\n" in capsys.readouterr().err


async def test_a_pasted_line_is_read(typed: int, capsys: pytest.CaptureFixture[str]) -> None:
    desk = login_terminal(browser=False)
    desk.show("https://a/", "")
    assert "paste the address at which it ends here:" in capsys.readouterr().err
    waiting = asyncio.ensure_future(desk.pasted())
    await asyncio.sleep(0)
    os.write(typed, b"  http://127.0.0.1:7/callback?code=c \n")
    assert await asyncio.wait_for(waiting, 10) == "http://127.0.0.1:7/callback?code=c"
    waiting = asyncio.ensure_future(desk.pasted())
    await asyncio.sleep(0)
    os.write(typed, b"\xff\n")
    assert await asyncio.wait_for(waiting, 10) == "\ufffd"


async def test_who_waits_for_a_line_may_give_up(typed: int) -> None:
    waiting = asyncio.ensure_future(login_terminal(browser=False).pasted())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


@pytest.mark.usefixtures("no_terminal")
async def test_nothing_is_pasted_without_a_terminal() -> None:
    waiting = asyncio.ensure_future(login_terminal(browser=False).pasted())
    done, _ = await asyncio.wait([waiting], timeout=0)
    assert not done
    waiting.cancel()
