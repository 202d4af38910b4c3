"""`modelplex stop`: ends calls in flight, and refuses what a run asks later, through the page's
route of a running gateway.

The gateways are that of the config, by its admin socket or its HTTP address, and those of runs. The
token is in MODELPLEX_ADMIN_TOKEN, else that of the config, else the one in the state folder, which
a gateway has made.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from modelplex.commands.record import FAILED, OK, fail
from modelplex.commands.text import count, line
from modelplex.config import Config
from modelplex.config.run_sockets import run_sockets
from modelplex.server.operator_page import kept_token, reachable

PATH: Final = "/_internal/page/api/stop"
KINDS: Final = (("mpx-", "request"), ("run-", "run"))
"""How the ids of requests and runs begin. Anything else is an agent."""
TOKEN_VARIABLE: Final = "MODELPLEX_ADMIN_TOKEN"  # noqa: S105 - a variable's name
"""The environment variable with the token of one of [[server.admins]]."""
TIMEOUT_S: Final = 10.0
MAX_RESPONSE: Final = 65_536
"""Bytes of the gateway's answer."""


def stop(arguments: argparse.Namespace, config: Config) -> int:
    """Returns the exit status: 1 where nothing was stopped."""
    what: str = arguments.what
    body = json.dumps({next((kind for prefix, kind in KINDS if what.startswith(prefix)), "agent"): what})
    connections = list(_connections(arguments.at, config))
    if not connections:
        return fail("the config has neither an admin_socket nor HTTP, through which calls can be stopped.")
    stopped, is_refused, faults = 0, False, list[str]()
    for connection in connections:
        try:
            found = _stop(connection, body, token=_token(config))
            stopped, is_refused = stopped + found.stopped, is_refused or found.refused
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            faults.append(f"the gateway does not answer: {error}.")
        except _Refused as error:
            faults.append(f"the gateway refuses: {error}")
        finally:
            connection.close()
    if not stopped and len(faults) == len(connections):
        return fail(faults[0])
    later = f"; {line(what)} gets no more" if is_refused else ""
    sys.stdout.write(f"{count(stopped, 'call')} stopped{later}\n")
    return OK if stopped or is_refused else FAILED


class _Refused(Exception):
    """The text is the gateway's."""


def _stop(connection: http.client.HTTPConnection, body: str, *, token: str) -> _Response:
    """Raises _Refused, and what the connection raises."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection.request("POST", PATH, body, headers)
    response = connection.getresponse()
    result = msgspec.json.decode(response.read(MAX_RESPONSE), type=_Response)
    if response.status != http.client.OK:
        raise _Refused(line(result.error.message) or str(response.status))
    return result


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Response(msgspec.Struct):
    """How many calls were stopped; `refused`: the run gets no more."""

    stopped: int = 0
    refused: bool = False
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
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return given
    configured = config.server.internal_token
    return configured.reveal() if configured is not None else kept_token(config)


def _connections(at: str | None, config: Config) -> Iterator[http.client.HTTPConnection]:
    """To the gateway at this address or path of an admin socket; else to that of the config, and to
    those of runs.
    """
    if at is not None:
        yield _UnixConnection(at) if "/" in at else http.client.HTTPConnection(at, timeout=TIMEOUT_S)
        return
    if config.server.admin_socket is not None:
        yield _UnixConnection(os.path.abspath(config.server.admin_socket))  # noqa: PTH100 - a path may be a link
    elif config.server.http:
        host = reachable(f"http://{config.server.http[0]}").removeprefix("http://")
        yield http.client.HTTPConnection(host, timeout=TIMEOUT_S)
    yield from map(_UnixConnection, run_sockets(os.environ))
