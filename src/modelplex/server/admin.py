"""Read-only views: /health and the models for every caller, /_internal/* for the host.

Who may read them is decided before (internal.py). Views read the gateway and the metrics and change
neither; they hold no secret, since the config is redacted where the view is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import msgspec

import modelplex
from modelplex.config import Config, redacted
from modelplex.core.caller import Caller
from modelplex.core.errors import BadRequest, UnknownModel
from modelplex.dialects.core.bounds import check_values
from modelplex.pipeline.gateway import Gateway
from modelplex.records.metrics import CONTENT_TYPE
from modelplex.routing.aliases import permitted_candidates, resolve
from modelplex.routing.circuits import ALL_CALLERS, ANY_KEY
from modelplex.server.readiness import Readiness

JSON = b"application/json"
View = Callable[[Gateway], Awaitable[tuple[bytes, bytes]]]
"""Returns a content type and a body."""
LISTED_MODELS = 5
"""Models that an error lists for an agent that named none of its own."""
SHOWN_BREAKERS = 50
"""Circuits of one provider that are shown, the open ones first: callers invent model names, and
each has a circuit.
"""
_encode = msgspec.json.Encoder().encode


class _ShowBody(msgspec.Struct):
    model: str = ""
    name: str = ""


class MetricsSource(Protocol):
    def render(self) -> bytes: ...


class AdminRoutes:
    """The views. `config` is replaced when one is loaded."""

    def __init__(
        self,
        config: Config,
        metrics: MetricsSource,
        *,
        addresses: Callable[[], list[str]],
        dropped: Callable[[], int],
        agents: Callable[[], Mapping[str, Any]] = dict,
        tools: Callable[[], list[dict[str, object]]] = list,
        records: Callable[[], Mapping[str, object] | None] = lambda: None,
        state: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self.config = config
        self._metrics = metrics
        self._addresses = addresses
        self._dropped = dropped
        self._agents = agents
        self._tools = tools
        self._records = records
        self.readiness = Readiness(addresses)
        self._state = state
        self._started = perf_counter()
        self._views: Mapping[str, Callable[[Gateway], object]] = {
            "status": self._status,
            "config": lambda _: redacted(self.config),
            "agents": lambda _: self._agents(),
            "mcp": lambda _: {"enabled": self.config.mcp.enabled, "servers": self._tools()},
        }

    def data(self, name: str, gateway: Gateway) -> object:
        """What a view below /_internal/ shows, for the page."""
        return self._views[name](gateway)

    async def counters(self) -> Mapping[str, Any]:
        """The view "agents", of all workers."""
        return self._agents()

    def view(self, name: str) -> View | None:
        """A view below /_internal/."""
        if name == "metrics":
            return self._metrics_view
        make = self._views.get(name)
        return partial(_json_view, make) if make is not None else None

    async def health(
        self, gateway: Gateway, *, detail: bool, caller: Caller | None = None
    ) -> tuple[bytes, bytes]:
        """That the gateway runs; in detail, also its tool servers and the providers' circuits that
        concern this caller.
        """
        report: dict[str, Any] = {"status": "ok", "service": "modelplex"}
        if detail:
            report["version"] = modelplex.__version__
            report["providers"] = [
                {"name": name, "type": upstream.type, "breakers": _breakers(gateway, name, caller)}
                for name, upstream in gateway.upstreams.items()
            ]
            if tools := self._tools():
                report["tool_servers"] = [{"name": row["name"], "state": row["state"]} for row in tools]
        return JSON, _encode(report)

    async def probe(self, gateway: Gateway, *, is_ready: bool, in_detail: bool) -> tuple[bytes, bytes]:
        """That the process serves, or also that requests should come. Raises NotReady."""
        if is_ready:
            self.readiness.check(gateway, in_detail=in_detail)
        return JSON, _encode({"status": "ready" if is_ready else "live"})

    async def dialect_view(
        self, gateway: Gateway, *, caller: Caller, write: Callable[[Mapping[str, str]], bytes] | bytes
    ) -> tuple[bytes, bytes]:
        """A constant, or what a dialect writes of the caller's models, by name, with the provider
        that would be tried first.
        """
        if isinstance(write, bytes):
            return JSON, write
        await gateway.catalog.wait_for_lists()
        return JSON, write(gateway.catalog.directory.model_names(caller.models))

    async def model(
        self, gateway: Gateway, *, caller: Caller, name: str, write: Callable[[str, str], bytes]
    ) -> tuple[bytes, bytes]:
        """One model, by any name that a call could use. Raises UnknownModel."""
        check_model_allowed(gateway, caller, name)
        return JSON, write(name, await _owner(gateway, name, globs=caller.models))

    async def show(
        self, gateway: Gateway, body: bytes, caller: Caller, *, write: Callable[[str], bytes]
    ) -> tuple[bytes, bytes]:
        """The model that the body of /api/show names. Raises BadRequest and UnknownModel."""
        name = await gateway.offload.run(partial(_model_to_show, body), body=body, owner=caller.owner)
        check_model_allowed(gateway, caller, name)
        await gateway.catalog.candidates(name, globs=caller.models)
        return JSON, write(name)

    def _status(self, gateway: Gateway) -> dict[str, Any]:
        catalog = gateway.catalog
        served = {s.provider: s for s in catalog.directory.served}
        providers = [
            {
                "name": name,
                "type": upstream.type,
                "base_url": upstream.base_url,
                "models": list(served[name].model_names()),
                "patterns": list(served[name].patterns),
                "listing_fault": catalog.faults.get(name),
                "keys": upstream.keys,
                "breakers": _breakers(gateway, name),
            }
            for name, upstream in gateway.upstreams.items()
        ]
        return {
            "status": "ok",
            "service": "modelplex",
            "version": modelplex.__version__,
            "uptime_seconds": round(perf_counter() - self._started, 3),
            "listeners": self._addresses(),
            "config": self.config.path,
            "providers": providers,
            "aliases": dict(catalog.directory.aliases),
            "log_lines_dropped": self._dropped(),
            "records": self._records(),
            **self._state(),
        }

    async def _metrics_view(self, gateway: Gateway) -> tuple[bytes, bytes]:
        del gateway
        # In a thread: with many models rendering takes longer than a stream should wait.
        return CONTENT_TYPE, await asyncio.to_thread(self._metrics.render)


async def _json_view(make: Callable[[Gateway], object], gateway: Gateway) -> tuple[bytes, bytes]:
    return JSON, _encode(make(gateway))


def _model_to_show(body: bytes) -> str:
    """The model that a body of /api/show names. Raises BadRequest."""
    check_values(body)
    try:
        members = msgspec.json.decode(body, type=_ShowBody)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid for /api/show: {error}.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    return members.model or members.name


def check_model_allowed(gateway: Gateway, caller: Caller, name: str) -> None:
    """Raises UnknownModel for a name that is not among the caller's models, whether or not such a
    model exists.
    """
    if caller.may_use(name):
        return
    allowed = list(gateway.catalog.directory.model_names(caller.models))
    served = f"It has: {', '.join(allowed[:LISTED_MODELS])}." if allowed else "It has none yet."
    more = " GET /models/v1/models lists all." if len(allowed) > LISTED_MODELS else ""
    raise UnknownModel(
        f"The agent {caller.agent!r} has no model {name!r} here. {served}{more}", param="model"
    )


async def _owner(gateway: Gateway, name: str, *, globs: Sequence[str]) -> str:
    """The provider that serves the model to an agent whose models are `globs`; "" for an alias.
    Raises UnknownModel.
    """
    await gateway.catalog.wait_for_lists()
    directory = gateway.catalog.directory
    if name in directory.aliases:
        return ""
    for candidate in permitted_candidates(directory, resolve(directory, name), name=name, globs=globs):
        if gateway.catalog.is_known(candidate):
            return candidate.provider
    raise UnknownModel(f"No provider here is known to serve the model {name!r}.", param="model")


def _breakers(gateway: Gateway, provider: str, caller: Caller | None = None) -> list[dict[str, Any]]:
    """The circuits of this provider that are not closed, the worst first. `key`, `model` and
    `endpoint` are null where the circuit is for all of them, `caller` where it is for every caller.
    With `caller`, circuits of other callers are left out, and so are the reasons of shared ones: a
    provider's error may quote another caller's request.
    """
    now = perf_counter()
    found = [one for one in gateway.circuits.unhealthy() if one.name.provider == provider]
    if caller is not None:
        found = [one for one in found if one.caller in {ALL_CALLERS, caller.owner}]
    found.sort(key=lambda one: (one.health.state, one.health.until), reverse=True)
    return [
        {
            "key": None if one.name.key == ANY_KEY else one.name.key,
            "model": one.name.model or None,
            "endpoint": one.name.endpoint or None,
            "caller": one.caller or None,
            "state": one.health.state,
            "failures": one.health.failures,
            "reason": one.health.reason if caller is None or one.caller == caller.owner else "",
            "tried_again_in_seconds": round(max(0.0, one.health.until - now), 1)
            if one.health.state == "open"
            else None,
        }
        for one in found[:SHOWN_BREAKERS]
    ]
