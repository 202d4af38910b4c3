"""Parses compatible.toml: one ProviderSpec for each type of provider. Opens no file."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from modelplex.core.egress import EgressFacts
from modelplex.core.request import Endpoint, Quirks

_PLACEHOLDER = re.compile(r"\{(\w+)\}")

Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]
"""How the key is sent: `authorization: Bearer`, a header of its own, or not at all."""

Version = Literal["", "anthropic-version", "api-version"]
"""Where the API version is sent: nowhere, in a header of that name, or in the query."""


class ProviderSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One type of provider.

    name         the value of `type` in a config; the key of the table
    title        the service's own name
    otel_name    `gen_ai.provider.name` in OpenTelemetry's GenAI conventions v0.1.0: one of theirs
                 where one applies, else the type
    base_url     without a trailing slash; "" if each user has their own. `{region}`, `{project}`,
                 `{location}` and `{resource}` are keys of the config, `{host}` is one of `hosts`
    hosts        location -> host; that of "" is for all others
    address_env  key of the config -> environment variables in which users keep it
    credentials  where a credential is from if there is no key: "aws", "gcp"; "" for nowhere
    signs_for    the service's name in an AWS signature
    scope        of the token of Entra ID
    added        members of the body that the owner of the gateway may set (ProviderConfig.body)
    added_to_streams  paths of members among them that only streams have
    body         "" or "vertex": the model is in the path only, and the API version in the body
    dialect      the name of its dialect
    key_env      the environment variable in which users keep their key; None if there is none
    root         prefix of each path, unless the base URL already ends with it ("/v1"), so that both
                 common forms of a base URL work
    paths        endpoint -> path, if it is not "/" + endpoint; "{model}" is filled in.
                 "endpoint:stream" takes precedence for streams
    models_path  the path of the model list, root included
    models_prefix  a prefix of names in that list that requests do not need
    serves       the endpoints it has
    quirks_elsewhere  quirks that differ for servers of this form at another address
    serves_elsewhere  further endpoints of servers of this form at another address
    docs         the page with these facts
    refusals     where it says what `quirks.refuses` has: pages, reports, types of its SDK
    read         when `docs`, or what `note` names in its place, was read last
    note         what was read of it, and what was not
    local        runs on the user's machine, needs no key, is not in the price list
    free         its calls cost nothing, which is known: no model answers them
    price_service  the service's name in the price list, if it is not the type's
    prices_by_address  many services have this API: another base URL selects the service
    egress       what the sealed policy must know about its models
    """

    name: str = ""
    title: str
    otel_name: str
    base_url: str
    dialect: str
    key_env: str | None = None
    hosts: dict[str, str] = {}
    address_env: dict[str, tuple[str, ...]] = {}
    credentials: Literal["", "aws", "gcp"] = ""
    signs_for: str = ""
    scope: str = ""
    added: tuple[str, ...] = ()
    added_to_streams: tuple[str, ...] = ()
    body: Literal["", "vertex"] = ""
    auth: Auth = "bearer"
    version: Version = ""
    quirks: Quirks = Quirks()
    quirks_elsewhere: dict[str, bool] = {}
    root: str = ""
    paths: dict[str, str] = {}
    models_path: str = "/models"
    models_prefix: str = ""
    serves: tuple[Endpoint, ...]
    serves_elsewhere: tuple[Endpoint, ...] = ()
    docs: str
    refusals: tuple[str, ...] = ()
    read: dt.date | None = None
    note: str = ""
    local: bool = False
    free: bool = False
    price_service: str = ""
    prices_by_address: bool = False
    egress: EgressFacts = EgressFacts()

    @property
    def default_base_url(self) -> str | None:
        """The base URL; None if each user has their own, or it depends on keys of the config."""
        return self.base_url if self.base_url and not self.address_keys else None

    @property
    def is_users_own(self) -> bool:
        """Whether each user has another address, so that a key may go to it."""
        return not self.base_url or "resource" in self.address_keys

    @property
    def address_keys(self) -> tuple[str, ...]:
        """The keys of the config that the base URL is made of."""
        names = _PLACEHOLDER.findall(self.base_url)
        return tuple(dict.fromkeys("location" if name == "host" else name for name in names))

    def address(self, values: Mapping[str, str]) -> str:
        """The base URL with these values of `address_keys`."""
        host = self.hosts.get(values.get("location", ""), self.hosts.get("", ""))
        url = self.base_url.replace("{host}", host)
        return _PLACEHOLDER.sub(lambda found: values[found[1]], url)

    @property
    def needs_key(self) -> bool:
        return self.auth != "none" and not self.local and not self.credentials

    @property
    def needs_base_url(self) -> bool:
        return not self.base_url and self.auth != "none"

    def path(self, endpoint: str, *, stream: bool = False) -> str:
        """The endpoint's path, root included, with "{model}" still in it."""
        own = self.paths.get(f"{endpoint}:stream") if stream else None
        return self.root + (own or self.paths.get(endpoint) or f"/{endpoint}")


def read_specs(table: bytes) -> Mapping[str, ProviderSpec]:
    """The specs by name. Raises ValueError naming the fault."""
    specs = {
        name: msgspec.structs.replace(spec, name=name)
        for name, spec in msgspec.toml.decode(table, type=dict[str, ProviderSpec]).items()
    }
    for name, spec in specs.items():
        if spec.base_url.endswith("/") or spec.root.endswith("/"):
            raise ValueError(f"{name}: a trailing slash")
        if not spec.models_path.startswith(f"{spec.root}/"):
            raise ValueError(f"{name}: models_path must start with {spec.root!r} and a slash")
    return specs
