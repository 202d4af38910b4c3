"""The config as it may be shown: everything but what is secret."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from modelplex.config.secret import hide
from modelplex.config.settings import Config


def redacted(config: Config) -> dict[str, object]:
    """The config in JSON's types, for `/_internal/config`. Of keys it says how many there are, of
    other secrets only that they are.
    """
    shown = cast("dict[str, Any]", msgspec.to_builtins(config, enc_hook=hide))
    for provider in shown["providers"]:
        provider["api_key"] = _count(len(provider["api_key"]))
    return shown


def _count(keys: int) -> str:
    return {0: "not set", 1: "set"}.get(keys, f"{keys} keys")
