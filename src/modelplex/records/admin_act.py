"""What an admin did through /_internal/, or tried to: for the log and the record."""

from __future__ import annotations

from typing import Literal

import msgspec

ActOutcome = Literal["ok", "refused", "error"]


class AdminAct(msgspec.Struct, frozen=True, kw_only=True):
    """One request that changes something, or would have. It has no secret: no token, no cookie, and
    of a body what was understood of it, with secrets as asterisks.

    id       that of the request, as in `x-request-id`
    act      its name in the table of routes, such as "stop"
    target   what it was for, such as "agent coder"; "" where that was not read
    outcome  "refused" where the caller may not, "error" where it could not be done
    by       how the caller was known: "token", "page token", "internal token", each with " (page)"
             for the cookie that the page set; "socket" for a process at the admin socket; "nobody"
    admin    the name of the token, or of the users of the socket, in [[server.admins]]
    client   an IP address; "" on the admin socket
    pid, uid  of the process at the admin socket; 0 and None for others
    agent    whose token was sent instead
    status, code, error  of the response
    detail   what it changed
    runs     runs of which calls were stopped, each once
    omitted  refused ones before this that are not recorded, since there were too many
    host     of the gateway, where it was read from a store
    """

    id: str
    started: float
    act: str
    target: str = ""
    outcome: ActOutcome = "ok"
    by: str = "nobody"
    admin: str = ""
    listener: str = ""
    client: str = ""
    pid: int = 0
    uid: int | None = None
    agent: str = ""
    method: str = ""
    path: str = ""
    status: int = 200
    code: str | None = None
    error: str | None = None
    detail: dict[str, object] = {}
    runs: tuple[str, ...] = ()
    seconds: float = 0.0
    omitted: int = 0
    host: str = ""
