"""What can be looked at: /health and the models for everybody, /_internal/* for the host.

Above it stands the app, which has checked who asks by the time that a view is made; below it the
gateway and the metrics, which are read and never changed. Views hold no
secret: the config is redacted where it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from hmac import compare_digest
from ipaddress import ip_address
from time import perf_counter
from typing import Any, Protocol

import msgspec

import modelplex
from modelplex.config import Config, Secret, redacted
from modelplex.core.caller import Caller
from modelplex.core.errors import BadRequest, PolicyDenied, Unauthorized, UnknownModel
from modelplex.dialects.core.bounds import check_values
from modelplex.pipeline.gateway import Gateway
from modelplex.records.metrics import CONTENT_TYPE
from modelplex.routing.aliases import permitted, resolve
from modelplex.routing.circuits import ANY_KEY, EVERYBODY

JSON = b"application/json"
View = Callable[[Gateway], Awaitable[tuple[bytes, bytes]]]
NAMED = 5
"""Models that an agent is told of when it asks for one that is not among its own."""
SHOWN_BREAKERS = 50
"""Circuits of one provider that are shown, the open ones first: enough to see what is wrong, and
models are names that callers make up.
"""
_encode = msgspec.json.Encoder().encode


class _Show(msgspec.Struct):
    model: str = ""
    name: str = ""


class MetricsSource(Protocol):
    """What the metrics offer here."""

    def render(self) -> bytes: ...


class AdminRoutes:
    """The views. `config` is replaced when a new one is loaded."""

    def __init__(
        self,
        config: Config,
        meters: MetricsSource,
        *,
        addresses: Callable[[], list[str]],
        dropped: Callable[[], int],
        agents: Callable[[], Mapping[str, object]] = dict,
        tools: Callable[[], list[dict[str, object]]] = list,
    ) -> None:
        self.config = config
        self.token: Secret | None = config.server.internal_token
        self._meters = meters
        self._addresses = addresses
        self._dropped = dropped
        self._agents = agents
        self._tools = tools
        self._since = perf_counter()
        self._views: Mapping[str, View] = {
            "status": self._status,
            "config": self._config,
            "metrics": self._metrics,
            "agents": self._agents_view,
            "mcp": self._mcp,
        }

    def view(self, name: str) -> View | None:
        return self._views.get(name)

    async def health(
        self, gateway: Gateway, *, detail: bool, caller: Caller | None = None
    ) -> tuple[bytes, bytes]:
        """That it is alive; in detail, also how the providers are to everybody and to
        this caller.
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

    async def models(
        self, gateway: Gateway, *, caller: Caller, write: Callable[[Mapping[str, str]], bytes]
    ) -> tuple[bytes, bytes]:
        """The models of this caller, written in its dialect."""
        return JSON, write(await _known(gateway, caller))

    async def own_view(
        self, gateway: Gateway, *, caller: Caller, write: Callable[[Mapping[str, str]], bytes] | bytes
    ) -> tuple[bytes, bytes]:
        """A page of the caller's dialect."""
        return JSON, write if isinstance(write, bytes) else write(await _known(gateway, caller))

    async def model(
        self, gateway: Gateway, *, caller: Caller, name: str, write: Callable[[str, str], bytes]
    ) -> tuple[bytes, bytes]:
        """One model, by any name that a call could use. Raises UnknownModel."""
        may_ask(gateway, caller, name)
        return JSON, write(name, await _owner(gateway, name, globs=caller.models))

    async def show(
        self, gateway: Gateway, body: bytes, caller: Caller, *, write: Callable[[str], bytes]
    ) -> tuple[bytes, bytes]:
        """A page about the model that the body names. Raises BadRequest and UnknownModel."""
        name = await gateway.offload.run(partial(_shown, body), body=body, owner=caller.owner)
        may_ask(gateway, caller, name)
        await gateway.catalog.candidates(name, globs=caller.models)
        return JSON, write(name)

    async def _status(self, gateway: Gateway) -> tuple[bytes, bytes]:
        listing = gateway.catalog
        served = {s.provider: s for s in listing.directory.served}
        providers = [
            {
                "name": name,
                "type": upstream.type,
                "base_url": upstream.base_url,
                "models": list(served[name].known()),
                "patterns": list(served[name].patterns),
                "listing_fault": listing.faults.get(name),
                "keys": upstream.keys,
                "breakers": _breakers(gateway, name),
            }
            for name, upstream in gateway.upstreams.items()
        ]
        status = {
            "status": "ok",
            "service": "modelplex",
            "version": modelplex.__version__,
            "uptime_seconds": round(perf_counter() - self._since, 3),
            "listeners": self._addresses(),
            "config": self.config.path,
            "providers": providers,
            "aliases": dict(listing.directory.aliases),
            "log_lines_dropped": self._dropped(),
        }
        return JSON, _encode(status)

    async def _config(self, gateway: Gateway) -> tuple[bytes, bytes]:
        del gateway
        return JSON, _encode(redacted(self.config))

    async def _agents_view(self, gateway: Gateway) -> tuple[bytes, bytes]:
        del gateway
        return JSON, _encode(self._agents())

    async def _mcp(self, gateway: Gateway) -> tuple[bytes, bytes]:
        del gateway
        return JSON, _encode({"enabled": self.config.mcp.enabled, "servers": self._tools()})

    async def _metrics(self, gateway: Gateway) -> tuple[bytes, bytes]:
        del gateway
        # In a thread: with many models it takes longer than a stream should wait.
        return CONTENT_TYPE, await asyncio.to_thread(self._meters.render)


def _shown(body: bytes) -> str:
    """The model that a body of /api/show names. Raises BadRequest."""
    check_values(body)
    try:
        asked = msgspec.json.decode(body, type=_Show)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not one of /api/show: {error}.") from None
    except RecursionError:
        raise BadRequest("The body is nested deeper than is read.") from None
    return asked.model or asked.name


def may_look_inside(client: str, authorization: str | None, token: Secret | None) -> None:
    """Raises PolicyDenied or Unauthorized. Without a token the loopback may; with one, whoever has
    it, and nobody else.
    """
    if token is None:
        if not _is_loopback(client):
            raise PolicyDenied(
                "Policy: /_internal/ is for clients on this machine. Set [server] internal_token to reach it from elsewhere.",
                code="internal_only",
            )
        return
    given = (authorization or "").removeprefix("Bearer ").encode()
    if not compare_digest(given, token.reveal().encode()):
        raise Unauthorized(
            "/_internal/ needs the header 'Authorization: Bearer TOKEN' with the value of [server] internal_token."
        )


def _is_loopback(client: str) -> bool:
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return False


async def _known(gateway: Gateway, caller: Caller | None) -> dict[str, str]:
    """Every name that this caller can ask for, with the provider that would be tried first."""
    await gateway.catalog.wait_for_lists()
    return gateway.catalog.directory.known(caller.models if caller is not None else ())


def may_ask(gateway: Gateway, caller: Caller, name: str) -> None:
    """Raises UnknownModel for a name that is not among the caller's models, be there such a model
    or not.
    """
    if caller.may_ask(name):
        return
    theirs = list(gateway.catalog.directory.known(caller.models))
    served = f"It has: {', '.join(theirs[:NAMED])}." if theirs else "It has none yet."
    more = " GET /models/v1/models lists all." if len(theirs) > NAMED else ""
    raise UnknownModel(
        f"The agent {caller.agent!r} has no model {name!r} here. {served}{more}", param="model"
    )


async def _owner(gateway: Gateway, name: str, *, globs: Sequence[str]) -> str:
    """Who is known to serve the model to an agent whose models are `globs`; "" for an alias. Raises
    UnknownModel.
    """
    await gateway.catalog.wait_for_lists()
    directory = gateway.catalog.directory
    if name in directory.aliases:
        return ""
    for candidate in permitted(directory, resolve(directory, name), name=name, globs=globs):
        if gateway.catalog.is_known(candidate):
            return candidate.provider
    raise UnknownModel(f"No provider here is known to serve the model {name!r}.", param="model")


def _breakers(gateway: Gateway, provider: str, caller: Caller | None = None) -> list[dict[str, Any]]:
    """The circuits of this provider that are not well, the worst first. `key`, `model` and
    `endpoint` are null where it is not about one of them; `caller` where it concerns everybody.
    With `caller` those that concern others alone are left out, and what the provider said to
    others: it may quote their requests.
    """
    now = perf_counter()
    found = [one for one in gateway.circuits.standing() if one.name.provider == provider]
    if caller is not None:
        found = [one for one in found if one.caller in {EVERYBODY, caller.owner}]
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
