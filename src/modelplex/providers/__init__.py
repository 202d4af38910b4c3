"""The catalog of providers, as data.

A type of provider is a table of compatible.toml, facts about models are tables of models.toml. The
two files are read once, at the first use; the package does no other I/O.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelplex.providers.specs import ProviderSpec


@cache
def all_specs() -> Mapping[str, ProviderSpec]:
    """Every type of provider, by name, in the order of compatible.toml."""
    from modelplex.providers.specs import read_specs

    return read_specs(read_package_file("compatible.toml"))


def read_package_file(name: str) -> bytes:
    """A file of this package. Without importlib.resources, which takes about 15 ms to import."""
    data = pkgutil.get_data(__name__, name)
    if data is None:
        raise FileNotFoundError(f"{name} is missing from the package")
    return data
