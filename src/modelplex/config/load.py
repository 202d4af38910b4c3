"""The config's only door to the world: it reads the file, knows the provider types, and knocks
where an Ollama would be.

Above it stand `cli` and `serve`; below it `read.py`, which is told all three and decides.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from modelplex.config.detected import embedded, ollama_url
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.read import LARGEST_FILE, parse
from modelplex.config.settings import Config, TypeFacts

OLLAMA_PATIENCE_S: Final = 0.25
"""How long the start waits to see whether an Ollama listens. One on this machine answers in under a
millisecond.
"""


def load(
    path: str,
    *,
    environ: Mapping[str, str],
    types: Mapping[str, TypeFacts] | None = None,
    find_ollama: Callable[[], bool] | None = None,
) -> Config:
    """The config in the file `path`. See `read.parse`; without `types` they are those of the
    provider room.

    Raises ConfigError, also where the file cannot be read.
    """
    known = types if types is not None else provider_types()
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - Path is another import, and start-up time counts
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        hint = _whose(path) if isinstance(error, PermissionError) else None
        fault = ConfigFault(path, None, "", expected="a readable file", found=reason, hint=hint)
        raise ConfigError([fault]) from None
    find = find_ollama or (lambda: listens(ollama_url(environ, types=known)))
    return parse(content, file=path, environ=environ, types=known, find_ollama=find)


def _whose(path: str) -> str:
    try:
        return (
            f"it belongs to the user {os.stat(path).st_uid}, and this process runs as the user {os.geteuid()}"  # noqa: PTH116 - as above
        )
    except OSError:
        return f"this process runs as the user {os.geteuid()}"


def load_without_file(environ: Mapping[str, str], *, types: Mapping[str, TypeFacts] | None = None) -> Config:
    """The config of what is found here: keys in `environ`, an Ollama, and the demo."""
    known = types if types is not None else provider_types()
    return embedded(environ, found_ollama=listens(ollama_url(environ, types=known)), types=known)


def provider_types() -> Mapping[str, TypeFacts]:
    """The types that `type` may name."""
    from modelplex.providers.types import TYPES

    return TYPES


def listens(url: str) -> bool:
    """Whether somebody accepts connections at an http address. Waits OLLAMA_PATIENCE_S at most for
    each of its addresses.
    """
    try:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=OLLAMA_PATIENCE_S):
            return True
    except (OSError, ValueError):
        return False
