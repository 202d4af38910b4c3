"""`unix:` base URLs for Python: after `import modelplex.client`,
`OpenAI(base_url="unix:/path/to/modelplex.socket", api_key="unused")` works as it stands.

This file runs in the agent's interpreter, not in the gateway's. It knows nothing of ours and nobody
of ours imports it: the standard library, and whichever of httpx2 and httpx can be imported, so that
a copy of it alone works too. With neither of them, importing it does nothing. It teaches their two
transports one more scheme; a request of any other takes its way untouched, and nothing else of the
interpreter is changed: no import hook, no environment variable.

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
"""What stands before the paths of a client whose base URL is the socket alone."""

SURFACES = frozenset("v1 v1beta v1alpha api mcp tools health anthropic gemini".split())
"""First segments that are a path of the gateway already. `models` is none: it is also where
OpenAI's clients look up a model ...
"""
MODEL_SURFACES = frozenset("v1 v1beta v1alpha api mcp".split())
"""... unless one of these follows it, and something more."""

KEEPALIVE_CONNECTIONS = 100
"""Idle connections to one socket. Busy ones are not counted: how many there may be is the gateway's
to say.
"""

_KEPT = "_modelplex_sockets"
"""The transport's attribute that holds its connections to sockets."""
_lock = threading.Lock()
_taught: dict[str, list[Callable[[], None]]] = {}
"""How to undo it, by library."""


class SocketAddress(NamedTuple):
    """Where a `unix:` URL leads: `target` is path and query as they go onto the wire."""

    socket: str
    target: str


def install() -> tuple[str, ...]:
    """Teach the HTTP libraries that can be imported, unless they know already. Importing this
    module does it.

    Returns:
        The names of those that know `unix:` now.
    """
    with _lock:
        for name in LIBRARIES:
            if name in _taught:
                continue
            try:
                library = importlib.import_module(name)
            except ImportError:
                continue
            _taught[name] = [*_teach_sync(library), *_teach_async(library)]
        return tuple(_taught)


def uninstall() -> None:
    """Give the libraries back the methods that they came with. Connections that are open stay so
    until their transports are closed or collected.
    """
    with _lock:
        for undo in _taught.values():
            for each in undo:
                each()
        _taught.clear()


def place(path: str) -> SocketAddress | None:
    """Read the path of a `unix:` URL, percent-encoded, with its query: the first part of it that is
    a socket, and the rest.

    A client may put its base before a URL that holds it already; then the socket stands twice, and
    counts once.

    Returns:
        None where no part of it is a socket.
    """
    path, mark, query = path.partition("?")
    pieces = path.split("/")
    for number in range(1, len(pieces) + 1):
        written = "/".join(pieces[:number])
        socket = unquote(written)
        if pieces[number - 1] and _is_socket(socket):
            rest = "/".join(pieces[number:])
            return SocketAddress(socket, _target(_once(written.lstrip("/"), rest)) + mark + query)
    return None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _once(socket: str, rest: str) -> str:
    """What follows the base's second appearance: `rest` is BASE SOCKET BASE PATH then, where BASE
    may be empty.
    """
    base, again, after = f"/{rest}".partition(f"/{socket}/")
    base = f"{base.strip('/')}/".lstrip("/")
    return after if again and after.startswith(base) else rest


def _target(rest: str) -> str:
    first, _, below = rest.lstrip("/").partition("/")
    second, _, more = below.partition("/")
    known = first in SURFACES or (first == "models" and second in MODEL_SURFACES and more != "")
    return ("/" if known else DEFAULT_BASE) + rest.lstrip("/")


# --- what both kinds of transport do --------------------------------------------------------------


def _place_of(library: ModuleType, request: Any) -> SocketAddress | None:
    """Where this request goes, or None where it is no affair of ours.

    Raises:
        ConnectError: the library's, which clients take for a connection that failed, as it did.
    """
    if request.url.scheme != SCHEME:
        # A client without a base takes the URL for a relative one, since it has no host, and drops
        # its scheme. (httpx then fails on reading the answer's cookies.)
        lost = library.__name__ != "httpx" and not request.url.scheme and not request.url.host
        return place(request.url.raw_path.decode("ascii")) if lost else None
    if request.url.host:
        message = (
            f"{request.url}: a socket's URL has no host: write unix:/path/to/modelplex.socket, with one slash"
        )
        raise library.ConnectError(message, request=request)
    found = place(request.url.raw_path.decode("ascii"))
    if found is None:
        message = f"{request.url}: no part of this path is a socket: the gateway may not be running"
        raise library.ConnectError(message, request=request)
    return found


def _rewritten(library: ModuleType, request: Any, target: str) -> Any:
    """A request of its own: redirects, hooks and retries go on reading the caller's."""
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


def _kept(transport: Any, socket: str, library: ModuleType, make: Callable[..., Any]) -> Any:
    """The transport's own way to this socket. An environment's proxies have no say in it."""
    import ssl

    with _lock:
        through = _sockets(transport).setdefault(_KEPT, {})
        if socket not in through:
            through[socket] = make(
                uds=socket,
                # There is no TLS on a socket: an empty context spares reading the authorities of
                # the machine.
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                trust_env=False,
                limits=library.Limits(max_connections=None, max_keepalive_connections=KEEPALIVE_CONNECTIONS),
            )
        return through[socket]


def _sockets(transport: Any) -> dict[str, dict[str, Any]]:
    """The transport's attributes, of which one is ours."""
    attributes: dict[str, dict[str, Any]] = transport.__dict__
    return attributes


def _released(transport: Any) -> list[Any]:
    with _lock:
        return list(_sockets(transport).pop(_KEPT, {}).values())


def _replace(kind: Any, **methods: Callable[..., Any]) -> list[Callable[[], None]]:
    """Set methods of a class, and return what undoes it, where nobody has replaced them again
    since.
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


# --- the two kinds --------------------------------------------------------------------------------


def _teach_sync(library: ModuleType) -> list[Callable[[], None]]:
    kind: Any = library.HTTPTransport
    handle, close, leave = kind.handle_request, kind.close, kind.__exit__

    def handle_request(self: Any, request: Any) -> Any:
        if (there := _place_of(library, request)) is None:
            return handle(self, request)
        socket, target = there
        try:
            return handle(_kept(self, socket, library, kind), _rewritten(library, request, target))
        except library.ConnectError as error:
            raise _unreachable(library, request, socket, error) from error

    def close_all(self: Any) -> None:
        for each in _released(self):
            close(each)
        close(self)

    def leave_all(self: Any, *error: Any) -> None:
        for each in _released(self):
            close(each)
        leave(self, *error)

    return _replace(kind, handle_request=handle_request, close=close_all, __exit__=leave_all)


def _teach_async(library: ModuleType) -> list[Callable[[], None]]:
    kind: Any = library.AsyncHTTPTransport
    handle, close, leave = kind.handle_async_request, kind.aclose, kind.__aexit__

    async def handle_async_request(self: Any, request: Any) -> Any:
        if (there := _place_of(library, request)) is None:
            return await handle(self, request)
        socket, target = there
        try:
            return await handle(_kept(self, socket, library, kind), _rewritten(library, request, target))
        except library.ConnectError as error:
            raise _unreachable(library, request, socket, error) from error

    async def close_all(self: Any) -> None:
        for each in _released(self):
            await close(each)
        await close(self)

    async def leave_all(self: Any, *error: Any) -> None:
        for each in _released(self):
            await close(each)
        await leave(self, *error)

    return _replace(kind, handle_async_request=handle_async_request, aclose=close_all, __aexit__=leave_all)


install()

if __name__ == "__main__":
    print(NODE)  # noqa: T201 - for a shell's $(...)
