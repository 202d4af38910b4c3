"""Which folders that a gateway writes to hold what it, or the launcher, starts or loads.

A gateway that runs somebody else's code could change it there, and have it started.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import modelplex
from modelplex.config import Config
from modelplex.config.settings import AwsAuth, CommandAuth, KeyFromCommand


def writable(folders: Iterable[str], config: Config, *, environ: Mapping[str, str]) -> list[str]:
    """These folders, each with the first path in it that is started or loaded, as text. Blocks for
    some `stat`s.
    """
    trusted = sorted({Path(path).resolve() for path in _started(config, environ)})
    found: list[str] = []
    for folder in sorted(folders):
        real = Path(folder).resolve()
        inside = next((path for path in trusted if path.is_relative_to(real)), None)
        if inside is not None and real.is_dir():
            found.append(f"{folder}, which has {inside}")
    return found


def _started(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    if config.path is not None:
        yield config.path
    yield from (sys.prefix, sys.base_prefix, str(Path(modelplex.__file__).parent))
    yield from (path for path in sys.path if Path(path).is_absolute() and Path(path) != Path.cwd())
    if _has_commands(config):
        yield from _started_by_commands(config, environ)


def _has_commands(config: Config) -> bool:
    """Whether a config may have commands: what knows them is not loaded for others."""
    keys = (key for provider in config.providers for key in provider.api_key)
    return bool(
        config.mcp.servers
        or any(isinstance(key, KeyFromCommand) for key in keys)
        or any(isinstance(provider.auth, AwsAuth | CommandAuth) for provider in config.providers)
    )


def _started_by_commands(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    import shutil

    from modelplex.confinement.permitted import Permitted
    from modelplex.credentials.aws import aws_files

    for command in Permitted(config, environ=environ).commands():
        program = shutil.which(command.argv[0], path=(command.env or environ).get("PATH"))
        if program is not None:
            yield program
        # Scripts; not folders, which tools read.
        yield from (word for word in command.argv[1:] if Path(word).is_absolute() and _is_file(word))
        if command.cwd is not None:
            yield command.cwd
    if any(isinstance(provider.auth, AwsAuth) for provider in config.providers):
        yield from map(str, aws_files(environ))


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # a long text, or one with a NUL
        return False
