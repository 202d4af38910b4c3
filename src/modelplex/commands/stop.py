"""`modelplex stop`: ends calls in flight, through the page's route of a running gateway.

The gateway is that of the config: its admin socket, else its HTTP address. The token is that of the
config, else the one in the state folder, which the gateway has made.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from typing import Final

import msgspec

from modelplex.commands.record import FAILED, OK, fail
from modelplex.commands.text import count, line
from modelplex.config import Config
from modelplex.server.operator_page import own_token, reachable

PATH: Final = "/_internal/page/api/stop"
REQUEST_PREFIX: Final = "mpx-"
"""How the ids of requests begin. Anything else is an agent."""
TIMEOUT_S: Final = 10.0
MAX_RESPONSE: Final = 65_536
"""Bytes of the gateway's answer."""


def stop(arguments: argparse.Namespace, config: Config) -> int:
    """Returns the exit status: 1 where nothing was stopped."""
    what: str = arguments.what
    body = json.dumps({"request" if what.startswith(REQUEST_PREFIX) else "agent": what})
    try:
        connection = _connection(arguments.at, config)
        if connection is None:
            return fail(
                "the config has neither an admin_socket nor HTTP, through which calls can be stopped."
            )
        try:
            headers = {"authorization": f"Bearer {_token(config)}", "content-type": "application/json"}
            connection.request("POST", PATH, body, headers)
            response = connection.getresponse()
            result = msgspec.json.decode(response.read(MAX_RESPONSE), type=_Response)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        return fail(f"the gateway does not answer: {error}.")
    if response.status != http.client.OK:
        return fail(f"the gateway refuses: {line(result.error.message) or response.status}")
    sys.stdout.write(f"{count(result.stopped, 'call')} stopped\n")
    return OK if result.stopped else FAILED


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Response(msgspec.Struct):
    stopped: int = 0
    error: _Error = _Error()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _token(config: Config) -> str:
    configured = config.server.internal_token
    return configured.reveal() if configured is not None else own_token(config)


def _connection(at: str | None, config: Config) -> http.client.HTTPConnection | None:
    """To the gateway at this address or path of an admin socket, else to that of the config."""
    if at is not None:
        return _UnixConnection(at) if "/" in at else http.client.HTTPConnection(at, timeout=TIMEOUT_S)
    if config.server.admin_socket is not None:
        return _UnixConnection(os.path.abspath(config.server.admin_socket))  # noqa: PTH100 - a path may be a link
    for address in config.server.http:
        host = reachable(f"http://{address}").removeprefix("http://")
        return http.client.HTTPConnection(host, timeout=TIMEOUT_S)
    return None
