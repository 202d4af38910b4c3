"""The I/O of the config: reads the file, imports the provider types, and looks for an Ollama."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import msgspec

from modelplex.config.detected import config_without_file, ollama_url
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.read import MAX_FILE, parse
from modelplex.config.settings import Config, TypeFacts

OLLAMA_TIMEOUT_S: Final = 0.25
"""For the connection at start. An Ollama on this machine accepts in under a millisecond."""


def load(
    path: str,
    *,
    environ: Mapping[str, str],
    types: Mapping[str, TypeFacts] | None = None,
    find_ollama: Callable[[], bool] | None = None,
) -> Config:
    """The config in the file `path`: see `read.parse`. `types` default to those of the catalog.

    Raises ConfigError, also where the file cannot be read.
    """
    available = types if types is not None else provider_types()
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - Path is another import, and start-up time counts
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        hint = _owner(path) if isinstance(error, PermissionError) else None
        fault = ConfigFault(path, None, "", expected="a readable file", found=reason, hint=hint)
        raise ConfigError([fault]) from None
    find = find_ollama or (lambda: listens(ollama_url(environ, types=available)))
    config = parse(content, file=path, environ=environ, types=available, find_ollama=find)
    return msgspec.structs.replace(config, digest=sha256(content).hexdigest())


def _owner(path: str) -> str:
    process = f"this process runs as the user {os.geteuid()}"
    try:
        return f"it belongs to the user {os.stat(path).st_uid}, and {process}"  # noqa: PTH116 - as above
    except OSError:
        return process


def load_without_file(environ: Mapping[str, str], *, types: Mapping[str, TypeFacts] | None = None) -> Config:
    available = types if types is not None else provider_types()
    return config_without_file(
        environ, found_ollama=listens(ollama_url(environ, types=available)), types=available
    )


def provider_types() -> Mapping[str, TypeFacts]:
    """The types that `type` may name."""
    from modelplex.providers.types import TYPES

    return TYPES


def listens(url: str) -> bool:
    """Whether an http address accepts connections. Waits OLLAMA_TIMEOUT_S at most for each IP
    address of its host.
    """
    try:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=OLLAMA_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False
