"""The catalog of providers, as data.

A type of provider is a row of compatible.toml, a model's facts are a row of models.toml. The two
files are read here once, when they are first needed; the package does no other I/O.
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
    """A file that lies beside this one. Not through importlib.resources, which costs the start some
    15 ms.
    """
    data = pkgutil.get_data(__name__, name)
    if data is None:
        raise FileNotFoundError(f"{name} is missing from the package")
    return data
