"""Checks against the machine: addresses, sockets, folders, and the commands of tool servers."""

from __future__ import annotations

import ipaddress
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modelplex.config.lint.finding import ConfigFinding, LintContext
from modelplex.config.toml_positions import Path as Place
from modelplex.config.toml_positions import dotted

MAX_SOCKET_PATH: Final = 107
"""Bytes: `sun_path` has 108 on Linux, with the NUL at its end."""


def open_listeners(context: LintContext) -> Iterator[ConfigFinding]:
    for index, address in enumerate(context.config.server.http):
        host = address.rpartition(":")[0].strip("[]")
        try:
            is_open = not ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_open = host != "localhost"
        if is_open:
            yield context.warning(
                "open-listener",
                context.element(index, "server", "http"),
                f"everybody who can connect to {address} uses the providers' keys: HTTP callers need no token",
                "listen on 127.0.0.1 or on a Unix socket, or restrict access with a proxy or a firewall",
                option="--http",
            )


def _socket_paths(context: LintContext) -> Iterator[tuple[Place, str, str | None]]:
    """Place, path, and the option that may have replaced the setting."""
    config = context.config
    for index, path in enumerate(config.server.socket):
        yield context.element(index, "server", "socket"), path, "--socket"
    if config.server.admin_socket is not None:
        yield ("server", "admin_socket"), config.server.admin_socket, None
    for index, agent in enumerate(config.agents):
        if agent.socket is not None:
            yield ("agents", index, "socket"), agent.socket, None
    if config.mcp.enabled and config.mcp.stdio_socket is not None:
        yield ("mcp", "stdio_socket"), config.mcp.stdio_socket, None


def sockets(context: LintContext) -> Iterator[ConfigFinding]:
    taken: dict[str, Place] = {}
    for place, path, option in _socket_paths(context):
        folder = Path(path).parent
        found: list[tuple[str, str, str]] = []
        if not folder.is_dir():
            message = f"the folder {folder} for this socket does not exist"
            found.append(("missing-folder", message, f"mkdir -p {folder}"))
        elif not _is_socket_or_free(path):
            found.append(("not-a-socket", f"{path} exists and is not a socket", "choose another path"))
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            message = f"the path is longer than the {MAX_SOCKET_PATH} bytes that the system allows"
            found.append(("long-socket-path", message, "choose a shorter one"))
        real = os.path.join(os.path.realpath(folder), os.path.basename(path))  # noqa: PTH118, PTH119 - names are compared, not opened
        if (first := taken.setdefault(real, place)) != place:
            message = f"it is the same socket as {dotted(first)}"
            found.append(("duplicate-socket", message, "give each a path of its own"))
        yield from (
            context.error(code, place, message, remedy, option=option) for code, message, remedy in found
        )


def _is_socket_or_free(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return True


def folders(context: LintContext) -> Iterator[ConfigFinding]:
    kept = context.config.server.keep_responses
    for place, path in (
        (("log", "file"), context.config.log.file),
        (("server", "keep_responses"), None if kept == "memory" else kept),
    ):
        if path is not None and not (folder := Path(path).parent).is_dir():
            message = f"the folder {folder} for this file does not exist"
            yield context.error("missing-folder", place, message, f"mkdir -p {folder}")


def disabled_tools(context: LintContext) -> Iterator[ConfigFinding]:
    mcp = context.config.mcp
    if mcp.servers and not mcp.enabled:
        message = f"no tool server is started or served, since [mcp] is off ({len(mcp.servers)} configured)"
        yield context.warning("tools-off", ("mcp", "servers", 0), message, "write enabled = true under [mcp]")


def commands_of_tools(context: LintContext) -> Iterator[ConfigFinding]:
    for index, server in enumerate(context.config.mcp.servers):
        command, cwd = server.command, server.cwd
        if command is None:
            continue
        place: Place = ("mcp", "servers", index)
        if cwd is not None and not Path(cwd).is_dir():
            message = f"the folder {cwd} does not exist"
            yield context.warning("missing-folder", (*place, "cwd"), message, f"mkdir -p {cwd}")
        own = server.env.get("PATH")
        path = own.reveal() if own is not None else context.environ.get("PATH", os.defpath)
        target = str(Path(cwd, command)) if "/" in command and cwd is not None else command
        if shutil.which(target, path=path) is None:
            message = f'there is no program "{command}"' + ("" if "/" in command else " on the PATH")
            remedy = "install it, or write its absolute path"
            yield context.warning("missing-command", (*place, "command"), message, remedy)
