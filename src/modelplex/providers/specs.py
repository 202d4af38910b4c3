"""The rows of compatible.toml: one for each type of provider. It takes bytes and opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from modelplex.core.egress import EgressFacts
from modelplex.core.request import Endpoint, Quirks

Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]
"""How the key is sent: `authorization: Bearer`, a header of its own, or not at all."""

Version = Literal["", "anthropic-version", "api-version"]
"""Where the API's version is said: nowhere, in a header of that name, or in the query."""


class ProviderSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One type of provider.

    name         what `type` says in a config; set from the table's key
    title        the service's own name
    base_url     without a slash at its end; "" where each user has an address of their own
    dialect      a file of wire/
    key_env      the environment variable in which its users keep their key; None where there is
                 none
    root         what stands before each path unless the base URL already ends with it ("/v1"), so
                 that both forms that users know are right
    paths        endpoint -> path, where it is not "/" + endpoint; "{model}" is filled in.
                 "endpoint:stream" goes before it for streams
    models_path  the list of models, root included
    models_prefix  what that list puts before each name and the service does without
    serves       the endpoints it has
    docs         the page that these facts are from
    local        runs on the user's own machine, needs no key, and has no price
    price_service  the service's name in the price list, where it is not the type's
    prices_by_address  many services have this API: at another base URL, that URL tells the service
    egress       what the sealed policy must know of its models
    """

    name: str = ""
    title: str
    base_url: str
    dialect: str
    key_env: str | None = None
    auth: Auth = "bearer"
    version: Version = ""
    quirks: Quirks = Quirks()
    root: str = ""
    paths: dict[str, str] = {}
    models_path: str = "/models"
    models_prefix: str = ""
    serves: tuple[Endpoint, ...]
    docs: str
    local: bool = False
    price_service: str = ""
    prices_by_address: bool = False
    egress: EgressFacts = EgressFacts()

    @property
    def default_base_url(self) -> str | None:
        """The base URL, None where there is no usual one."""
        return self.base_url or None

    @property
    def needs_key(self) -> bool:
        return self.auth != "none" and not self.local

    @property
    def needs_base_url(self) -> bool:
        return not self.base_url and self.auth != "none"

    def path(self, endpoint: str, *, stream: bool = False) -> str:
        """The endpoint's path, root included, with "{model}" still in it."""
        own = self.paths.get(f"{endpoint}:stream") if stream else None
        return self.root + (own or self.paths.get(endpoint) or f"/{endpoint}")


def read_specs(table: bytes) -> Mapping[str, ProviderSpec]:
    """The rows of compatible.toml, by name.

    Raises ValueError naming what is wrong with the table.
    """
    rows = {
        name: msgspec.structs.replace(row, name=name)
        for name, row in msgspec.toml.decode(table, type=dict[str, ProviderSpec]).items()
    }
    for name, row in rows.items():
        if row.base_url.endswith("/") or row.root.endswith("/"):
            raise ValueError(f"{name}: a slash at the end")
        if not row.models_path.startswith(f"{row.root}/"):
            raise ValueError(f"{name}: models_path must begin with {row.root!r} and a slash")
    return rows
