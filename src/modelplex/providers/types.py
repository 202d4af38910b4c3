"""The values of `type` of a provider in a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modelplex.providers import all_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelplex.providers.specs import ProviderSpec

TYPES: Final[Mapping[str, ProviderSpec]] = all_specs()
