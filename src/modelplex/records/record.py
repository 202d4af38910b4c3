"""The Record of a model call, one for every request however it ended. It contains no secret, and
bodies and headers only where they are logged or stored.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from modelplex.core.caller import Peer, PeerNetwork
from modelplex.core.errors import Blame
from modelplex.core.events import Usage
from modelplex.core.request import Change, StrippedValue
from modelplex.core.trace_context import TraceContext

Outcome = Literal["ok", "error", "broken", "client_closed"]


AS_RECEIVED: Final = b""
"""In place of a body that is the request's, unchanged: Records that wait are in memory and on the
disk with all their bodies.
"""


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One attempt at a provider.

    outcome      "ok", or the error's code
    status       the provider's HTTP status; None without a response
    usage, cost  what the provider bills, also for a failed attempt
    charge       US dollars that a budget counts, also for estimated tokens
    dialect      the provider's
    sent         the body that went to the provider, where bodies are kept: AS_RECEIVED where it is
                 the request's; None if none went
    bytes_sent   its size, also where it is not kept
    otel_name    of the provider's type
    started      seconds after the start of the request
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
    dialect: str = ""
    sent: bytes | None = None
    bytes_sent: int = 0
    otel_name: str = ""
    started: float = 0.0


class Times(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Seconds.

    overhead      the gateway's own time until the upstream request was sent
    queued        waiting before retries
    first_output  until the first output byte was sent to the client; None if none was
    total         from the head of the request to the last byte of the response
    """

    overhead: float = 0.0
    queued: float = 0.0
    first_output: float | None = None
    total: float = 0.0


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One model call.

    started             Unix seconds
    requested_model     the model's name as the client wrote it
    model, provider     what served the call; "" if nothing did
    agent               a name of [[agents]], else ""
    run                 the id of the run of `modelplex run` whose socket was used, else ""
    peer, peer_network  the process that connected, if it was attested
    outcome             "ok", "error" (before or instead of a response), "broken" (an error after
                        output began), "client_closed"
    rule                of the sealed policy, if one has refused the request
    blame               set for every outcome but "ok"
    usage, cost         of the last attempt; earlier ones are in `attempts`
    bytes_in, bytes_out sizes of the bodies
    declared            the content-length of a body that was not read to its end, if it has one
    headers             the request's, without secrets, where bodies are kept
    response_id         by which a later request may go on from this response
    previous_response   the one from which this request goes on
    trace               of the client, if it sent a traceparent
    tokens              token ids and log probabilities of the response as JSON, where they are kept
    """

    id: str
    started: float
    listener: str
    client: str
    endpoint: str
    dialect: str
    requested_model: str
    agent: str = ""
    run: str = ""
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
    rule: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    times: Times = Times()
    attempts: tuple[AttemptRecord, ...] = ()
    changes: tuple[Change, ...] = ()
    stripped: tuple[StrippedValue, ...] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    declared: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    response_id: str | None = None
    previous_response: str | None = None
    trace: TraceContext | None = None
    request_body: bytes | None = None
    response_body: bytes | None = None
    tokens: bytes | None = None
