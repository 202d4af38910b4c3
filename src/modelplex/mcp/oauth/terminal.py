"""The terminal of `modelplex mcp login`: shows an address, opens the browser, reads what is pasted.

A browser on another machine cannot reach this one's loopback address. Its person pastes the address
at which it ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import webbrowser
from contextlib import suppress
from typing import Final

from modelplex.mcp.definition_scan import printable
from modelplex.mcp.oauth.login import LoginTerminal

MAX_LINE: Final = 65_536
"""Bytes of a pasted address."""


def login_terminal(*, browser: bool) -> LoginTerminal:
    opens = browser and _has_browser()
    return LoginTerminal(_Shown(opens=opens), _open if opens else _nothing, _pasted)


def _has_browser() -> bool:
    """Not one that would take this terminal over, as webbrowser offers without a display."""
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


class _Shown:
    """Writes to stderr, so that the result alone is on stdout."""

    def __init__(self, *, opens: bool) -> None:
        self._opens = opens

    def __call__(self, address: str, code: str) -> None:
        if code:
            lines = [
                "Open this address in any browser:",
                "",
                f"  {_whole(address)}",
                "",
                f"and enter the code {printable(code)}",
                "",
            ]
        elif address:
            first = (
                "The browser opens. If it does not, open this address:"
                if self._opens
                else "Open this address in a browser:"
            )
            lines = [first, "", f"  {_whole(address)}", ""]
            if sys.stdin.isatty():
                lines.append("If the browser is on another machine, paste the address at which it ends here:")
        else:
            lines = ["That is not the address at which this sign-in ends. It begins with http://127.0.0.1:"]
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()


def _whole(address: str) -> str:
    return printable(address, limit=MAX_LINE)


def _nothing(_address: str) -> None: ...


def _open(address: str) -> None:
    """Some browsers are waited for until they end."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


async def _pasted() -> str:
    """A line of the terminal. Never returns where there is none."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    if not sys.stdin.isatty():
        return await line
    number = sys.stdin.fileno()

    def read() -> None:
        content = os.read(number, MAX_LINE)
        if not content:
            loop.remove_reader(number)
        elif not line.done():
            line.set_result(content.decode("utf-8", "replace").strip())

    loop.add_reader(number, read)
    try:
        return await line
    finally:
        with suppress(OSError, ValueError):
            loop.remove_reader(number)
