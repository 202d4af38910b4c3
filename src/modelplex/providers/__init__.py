"""Where the providers are and how they want to be asked, as data; no file here sees a socket.

Above it stand the gateway and the config; below it the vocabulary. A service without behaviour of
its own is a row of compatible.toml, what a model can do is a row of models.toml. The two tables are
read here, once and when first asked for: the one thing in this pure room that looks outside, and
all it finds was packed beside it.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelplex.providers.specs import ProviderSpec


@cache
def all_rows() -> Mapping[str, ProviderSpec]:
    """Every type of provider, by name, in the order of compatible.toml."""
    from modelplex.providers.specs import read_rows

    return read_rows(packed("compatible.toml"))


def packed(name: str) -> bytes:
    """A file that lies beside this one. Not through importlib.resources, which costs the start some
    15 ms.
    """
    data = pkgutil.get_data(__name__, name)
    if data is None:
        raise FileNotFoundError(f"{name} is missing from the package")
    return data
