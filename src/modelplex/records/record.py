"""The Record: one for every request, however it ended. It is frozen and holds no secret; bodies are
in it only with `[log] bodies = true`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from modelplex.core.caller import Peer, PeerNetwork
from modelplex.core.errors import Blame
from modelplex.core.events import Usage
from modelplex.core.request import Change, StrippedValue

Outcome = Literal["ok", "error", "broken", "client_closed"]


class AttemptRecord(msgspec.Struct, frozen=True):
    """One attempt. `outcome` is "ok" or the error's code; times are seconds. `status` is the
    provider's, None where none came. `usage` and `cost` are what it took, be there an answer or
    not; `charge` is what a budget counts for it, which is known of an estimate too.
    """

    provider: str
    model: str
    key: int
    outcome: str
    status: int | None = None
    seconds: float = 0.0
    message: str | None = None
    upstream_request_id: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    charge: float | None = None


class Times(msgspec.Struct, frozen=True):
    """Seconds. `ours` is our own time until the upstream request left; `first` until the first
    output byte went to the client (None where none did); `queue` is waiting for a retry's delay;
    `total` from the request's head to the answer's last byte.
    """

    overhead: float = 0.0
    queued: float = 0.0
    first_output: float | None = None
    total: float = 0.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`asked` is the model's name as the client wrote it, `model` the one that served it, by
    `provider`; both empty where none did.

    `outcome`: "ok", "error" (before or instead of an answer), "broken" (an error after output had
    begun), "client_closed". `agent` is a name of [[agents]], "" for nobody in particular; `peer`
    and `attested` are of the process that connected, where it was looked at. `usage` and `cost` are
    of the last attempt; earlier ones have their own in `tries`. `blame` is set for every outcome
    but "ok". `started` is Unix seconds. `bytes_in`, `bytes_out` count bodies.
    """

    id: str
    started: float
    listener: str
    client: str
    endpoint: str
    dialect: str
    requested_model: str
    agent: str = ""
    peer: Peer | None = None
    peer_network: PeerNetwork | None = None
    model: str = ""
    provider: str = ""
    stream: bool = False
    passthrough: bool = False
    status: int = 0
    outcome: Outcome = "ok"
    blame: Blame | None = None
    error: str | None = None
    code: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    times: Times = Times()
    attempts: tuple[AttemptRecord, ...] = ()
    changes: tuple[Change, ...] = ()
    stripped: tuple[StrippedValue, ...] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    request_body: bytes | None = None
    response_body: bytes | None = None
