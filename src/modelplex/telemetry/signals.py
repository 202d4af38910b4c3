"""The signals of OTLP, and what the gateway says of who sent them. Pure.

Source: https://opentelemetry.io/docs/specs/otlp/ and the messages of opentelemetry-proto 1.45
(read on 2026-12-01).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

Signal = Literal["traces", "metrics", "logs"]
Encoding = Literal["json", "protobuf"]
MEDIA_TYPES: Final[Mapping[str, Encoding]] = {
    "application/json": "json",
    "application/x-protobuf": "protobuf",
}
LABELS: Final[Mapping[Encoding, bytes]] = {
    encoding: label.encode() for label, encoding in MEDIA_TYPES.items()
}
EMPTY: Final[Mapping[Encoding, bytes]] = {"json": b"{}", "protobuf": b""}
"""The response without a partial success."""

RESERVED: Final = "modelplex."
"""Resource attributes that begin with this are the gateway's: those of an agent are taken out."""
SERVICE_KEY: Final = "service.name"
SERVICE: Final = "modelplex"
"""The gateway's own name, which no agent's telemetry may have."""


class BadTelemetry(ValueError):
    """A body that is no OTLP. The message says why."""


class SignalMembers(msgspec.Struct, frozen=True):
    """The names of a signal's members in JSON. In protobuf, all three have the same numbers: 1 for
    the resources, and in each 1 for the resource, 2 for its scopes, 3 for the schema's URL.
    """

    resources: str
    scopes: str


MEMBERS: Final[Mapping[Signal, SignalMembers]] = {
    "traces": SignalMembers("resourceSpans", "scopeSpans"),
    "metrics": SignalMembers("resourceMetrics", "scopeMetrics"),
    "logs": SignalMembers("resourceLogs", "scopeLogs"),
}


class Sender(msgspec.Struct, frozen=True):
    """Who sent it, by the socket or token: `agent` and `run` may be ""; `owner` is whose share of
    rate, memory and disk it counts for.
    """

    owner: str
    listener: str
    agent: str = ""
    run: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """The resource attributes that the gateway sets."""
        found = {"agent.name": self.agent, "run.id": self.run, "listener": self.listener}
        return {f"{RESERVED}{name}": value for name, value in found.items() if value}


class Item(msgspec.Struct, frozen=True, eq=False):
    """One stamped request. `at` is Unix seconds."""

    at: float
    sender: Sender
    signal: Signal
    encoding: Encoding
    body: bytes
