"""`unix:` base URLs for Python: after `import modelplex.client`,
`OpenAI(base_url="unix:/path/to/modelplex.socket", api_key="unused")` works.

This file runs in the agent's interpreter, not in the gateway's. It imports nothing of ours and
nothing of ours imports it; it needs the standard library and httpx2 or httpx, so that a copy of it
works alone. Without either library, importing it does nothing. It adds one scheme to their two
transports. Requests of other schemes pass unchanged, and nothing else of the interpreter changes:
no import hook, no environment variable.

`NODE` is the file that does the same for Node's `fetch`: `node --import "$(python -m
modelplex.client)" agent.mjs`.
"""

from __future__ import annotations

import functools
import importlib
import os
import stat
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote

__all__ = ["NODE", "install", "uninstall"]

NODE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.mjs")  # noqa: PTH100, PTH118, PTH120 - pathlib costs as much as the rest
"""The path of the file for Node's `--import`."""

LIBRARIES = ("httpx2", "httpx")
SCHEME = "unix"
DEFAULT_BASE = "/models/v1/"
"""The base of the paths of a client whose base URL is the socket alone."""

GATEWAY_SEGMENTS = frozenset("v1 v1beta v1alpha api mcp tools health anthropic gemini".split())
"""First segments of the gateway's own paths. `models` is not one of them, since OpenAI's clients
look up models there, ...
"""
AFTER_MODELS = frozenset("v1 v1beta v1alpha api mcp".split())
"""... unless one of these follows it, and another segment."""

KEEPALIVE_CONNECTIONS = 100
"""Idle connections to one socket. The gateway limits the busy ones."""

_TRANSPORTS = "_modelplex_sockets"
"""The attribute of a transport that holds its transports to sockets."""
_lock = threading.Lock()
_installed: dict[str, list[Callable[[], None]]] = {}
"""The functions that undo it, by library."""


class SocketAddress(NamedTuple):
    """The address in a `unix:` URL. `target` is the path and query of the request line."""

    socket: str
    target: str


def install(*names: str) -> tuple[str, ...]:
    """Add `unix:` to the HTTP libraries of these names, of all names by default, that can be
    imported. Importing this module does it, unless client_hook.py imports it. Idempotent. Returns
    the names of the libraries that have it.
    """
    with _lock:
        for name in names or LIBRARIES:
            if name in _installed:
                continue
            try:
                library = importlib.import_module(name)
            except ImportError:
                continue
            _installed[name] = [*_install_sync(library), *_install_async(library)]
        return tuple(_installed)


def uninstall() -> None:
    """Restore the methods of the libraries. Open connections stay open until their transports are
    closed or collected.
    """
    with _lock:
        for undo in _installed.values():
            for each in undo:
                each()
        _installed.clear()


def parse_path(path: str) -> SocketAddress | None:
    """Split the path of a `unix:` URL, percent-encoded, with its query, into the first part that is
    a socket and the rest. None if no part is a socket.

    A client may prepend its base to a URL that has it already; then the socket is there twice, and
    counts once.
    """
    path, mark, query = path.partition("?")
    pieces = path.split("/")
    for number in range(1, len(pieces) + 1):
        written = "/".join(pieces[:number])
        socket = unquote(written)
        if pieces[number - 1] and _is_socket(socket):
            rest = "/".join(pieces[number:])
            return SocketAddress(
                socket, _target(_without_second_base(written.lstrip("/"), rest)) + mark + query
            )
    return None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _without_second_base(socket: str, rest: str) -> str:
    """PATH, if `rest` is BASE SOCKET BASE PATH, where BASE may be empty; else `rest`."""
    base, again, after = f"/{rest}".partition(f"/{socket}/")
    base = f"{base.strip('/')}/".lstrip("/")
    return after if again and after.startswith(base) else rest


def _target(rest: str) -> str:
    first, _, below = rest.lstrip("/").partition("/")
    second, _, more = below.partition("/")
    known = first in GATEWAY_SEGMENTS or (first == "models" and second in AFTER_MODELS and more != "")
    return ("/" if known else DEFAULT_BASE) + rest.lstrip("/")


def _address_of(library: ModuleType, request: Any) -> SocketAddress | None:
    """The socket of a request, or None for another scheme. Raises the library's ConnectError, which
    clients handle as a failed connection.
    """
    if request.url.scheme != SCHEME:
        # A client without a base treats the URL as relative, since it has no host, and drops its
        # scheme. (httpx then fails when it reads the response's cookies.)
        lost = library.__name__ != "httpx" and not request.url.scheme and not request.url.host
        return parse_path(request.url.raw_path.decode("ascii")) if lost else None
    if request.url.host:
        message = (
            f"{request.url}: a socket's URL has no host: write unix:/path/to/modelplex.socket, with one slash"
        )
        raise library.ConnectError(message, request=request)
    found = parse_path(request.url.raw_path.decode("ascii"))
    if found is None:
        message = f"{request.url}: no part of this path is a socket: the gateway may not be running"
        raise library.ConnectError(message, request=request)
    return found


def _rewritten(library: ModuleType, request: Any, target: str) -> Any:
    """A copy of the request: redirects, hooks and retries read the caller's."""
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
    return library.Request(
        request.method,
        library.URL(scheme="http", host="localhost", raw_path=target.encode("ascii")),
        headers=[(b"Host", b"localhost"), *headers],
        stream=request.stream,
        extensions=request.extensions,
    )


def _unreachable(library: ModuleType, request: Any, socket: str, error: Exception) -> Any:
    message = f"{request.url}: connecting to {socket} failed ({error}): the gateway may not be running"
    return library.ConnectError(message, request=request)


def _transport_to(transport: Any, socket: str, library: ModuleType, make: Callable[..., Any]) -> Any:
    """The transport to this socket, made once. It ignores the environment's proxies."""
    import ssl

    with _lock:
        transports: dict[str, Any] = transport.__dict__.setdefault(_TRANSPORTS, {})
        if socket not in transports:
            transports[socket] = make(
                uds=socket,
                # There is no TLS on a socket: an empty context avoids loading the CA certificates.
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                trust_env=False,
                limits=library.Limits(max_connections=None, max_keepalive_connections=KEEPALIVE_CONNECTIONS),
            )
        return transports[socket]


def _remove_transports(transport: Any) -> list[Any]:
    with _lock:
        return list(transport.__dict__.pop(_TRANSPORTS, {}).values())


def _replace(kind: Any, **methods: Callable[..., Any]) -> list[Callable[[], None]]:
    """Replace methods of a class. Returns the functions that undo it, each unless the method was
    replaced again since.
    """
    undo: list[Callable[[], None]] = []
    for name, ours in methods.items():
        before = getattr(kind, name)
        setattr(kind, name, functools.wraps(before)(ours))
        undo.append(functools.partial(_restore, kind, name, ours=getattr(kind, name), before=before))
    return undo


def _restore(kind: Any, name: str, *, ours: object, before: object) -> None:
    if getattr(kind, name) is ours:
        setattr(kind, name, before)


def _install_sync(library: ModuleType) -> list[Callable[[], None]]:
    kind: Any = library.HTTPTransport
    handle, close, leave = kind.handle_request, kind.close, kind.__exit__

    def handle_request(self: Any, request: Any) -> Any:
        if (address := _address_of(library, request)) is None:
            return handle(self, request)
        socket, target = address
        try:
            return handle(_transport_to(self, socket, library, kind), _rewritten(library, request, target))
        except library.ConnectError as error:
            raise _unreachable(library, request, socket, error) from error

    def close_all(self: Any) -> None:
        for each in _remove_transports(self):
            close(each)
        close(self)

    def leave_all(self: Any, *error: Any) -> None:
        for each in _remove_transports(self):
            close(each)
        leave(self, *error)

    return _replace(kind, handle_request=handle_request, close=close_all, __exit__=leave_all)


def _install_async(library: ModuleType) -> list[Callable[[], None]]:
    kind: Any = library.AsyncHTTPTransport
    handle, close, leave = kind.handle_async_request, kind.aclose, kind.__aexit__

    async def handle_async_request(self: Any, request: Any) -> Any:
        if (address := _address_of(library, request)) is None:
            return await handle(self, request)
        socket, target = address
        try:
            return await handle(
                _transport_to(self, socket, library, kind), _rewritten(library, request, target)
            )
        except library.ConnectError as error:
            raise _unreachable(library, request, socket, error) from error

    async def close_all(self: Any) -> None:
        for each in _remove_transports(self):
            await close(each)
        await close(self)

    async def leave_all(self: Any, *error: Any) -> None:
        for each in _remove_transports(self):
            await close(each)
        await leave(self, *error)

    return _replace(kind, handle_async_request=handle_async_request, aclose=close_all, __aexit__=leave_all)


if getattr(__spec__, "loader_state", None) != "lazy":
    install()

if __name__ == "__main__":
    print(NODE)  # noqa: T201 - for a shell's $(...)
