"""What a launcher does for the gateway of a config: the commands it starts, the Unix sockets that
it connects to and listens on. All else is refused.
"""

# A path is text, with the `..` of the config.
# ruff: noqa: PTH118, PTH120
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from modelplex.config import Config
from modelplex.config.mcp_settings import McpServer
from modelplex.config.run_sockets import FOLDER as RUNS
from modelplex.config.settings import AwsAuth, CommandAuth, KeyFromCommand
from modelplex.confinement.messages import command_key
from modelplex.confinement.rights import socket_paths, state_folders
from modelplex.core.origin import parse_origin
from modelplex.credentials.aws import process_commands
from modelplex.mcp.servers.connect import server_command
from modelplex.mcp.servers.server_process import isolated


class Command(msgspec.Struct, frozen=True):
    """`env` is None where it is the launcher's own."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None
    cwd: str | None


class Permitted:
    """Of one config. Programs are looked up anew at each use, since they may be installed later."""

    def __init__(self, config: Config, *, environ: Mapping[str, str]) -> None:
        self.config = config
        self._environ = environ
        self.socket_folders = {os.path.dirname(real_place(path)) for path in socket_paths(config)}
        for folder in state_folders(config, environ=environ):
            self.socket_folders.add(os.path.realpath(os.path.join(folder, RUNS)))
        self.connects = set(map(real_place, connected_sockets(config)))

    def __repr__(self) -> str:
        return f"<Permitted {len(self.connects)} sockets>"

    def command(self, key: str) -> Command | None:
        """Blocks for a few `stat`s."""
        for command in self.commands():
            if command_key(command.argv, command.env, command.cwd) == key:
                return command
        return None

    def may_listen_at(self, path: str) -> bool:
        """In a folder of the config's sockets; anywhere where agents may be added while it runs."""
        adds_agents = self.config.server.admin_socket is not None
        return adds_agents or os.path.dirname(real_place(path)) in self.socket_folders

    def may_connect(self, path: str) -> bool:
        return real_place(path) in self.connects

    def commands(self) -> Iterator[Command]:
        for server in self.config.mcp.servers:
            command = tool_server(server, self._environ)
            if command is not None:
                yield command
        tokens = (admin.token for admin in self.config.server.admins)
        keys = (key for provider in self.config.providers for key in provider.api_key)
        for key in (*keys, *tokens):
            if isinstance(key, KeyFromCommand):
                yield Command(tuple(word.reveal() for word in key.words), None, None)
        for provider in self.config.providers:
            if isinstance(provider.auth, CommandAuth):
                yield Command(tuple(word.reveal() for word in provider.auth.command), None, None)
            if isinstance(provider.auth, AwsAuth):
                for words in process_commands(self._environ):
                    yield Command(words, None, None)


def real_place(path: str) -> str:
    """The path with its folder as the kernel finds it: by text, `FOLDER/LINK/../NAME` would be in
    FOLDER.
    """
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def tool_server(server: McpServer, environ: Mapping[str, str]) -> Command | None:
    """How a server of the config is started; None if it has no command, or there is no such
    program.
    """
    command = server_command(server, environ)
    if command is None:
        return None
    argv = command.argv if command.network else isolated(command.argv)
    return Command(argv, command.env, command.cwd)


def connected_sockets(config: Config) -> Iterator[str]:
    """The Unix sockets that the gateway connects to."""
    urls = [provider.base_url for provider in config.providers]
    urls += [server.url.reveal() for server in config.mcp.servers if server.url is not None]
    for url in urls:
        with suppress(ValueError):
            path = parse_origin(url)[0].unix
            if path is not None:
                yield path
