"""`modelplex mcp login`, `logout` and `status`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from time import time
from typing import Final
from urllib.parse import urlsplit

import msgspec

from modelplex.config.mcp_settings import McpOAuth, McpServer
from modelplex.config.settings import Config
from modelplex.config.state_folder import state_folder
from modelplex.credentials.source import CredentialError
from modelplex.http_client import HttpClient
from modelplex.mcp.definition_scan import printable
from modelplex.mcp.oauth.login import Login
from modelplex.mcp.oauth.revocation import revoke
from modelplex.mcp.oauth.sign_in import SignIn
from modelplex.mcp.oauth.source import SignInState, login_command, state_of
from modelplex.mcp.oauth.store import SignInFiles
from modelplex.mcp.oauth.terminal import login_terminal

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2


async def login(arguments: argparse.Namespace, config: Config) -> int:
    found = _server(config, arguments.server, agent=arguments.agent)
    if isinstance(found, str):
        return _complain(found, WRONG)
    if _auth(found).by_itself:
        return _complain(
            f"{found.name} needs no sign-in: the gateway uses the credentials of its `auth`", WRONG
        )
    files, client, before = _files(config), HttpClient(), None
    try:
        with suppress(CredentialError):  # a file that cannot be used is replaced
            before = _kept(files, found, arguments.agent)
        terminal = login_terminal(browser=not (arguments.no_browser or arguments.device))
        made = await Login(found, client, terminal, before=before, scope=arguments.scope).run(
            device=arguments.device
        )
        async with files.locked(found.name, arguments.agent):
            files.write(made, found.name, arguments.agent)
    except CredentialError as error:
        return _complain(f"{found.name}: {printable(str(error), limit=600)}", FAILED)
    finally:
        await client.aclose()
    if (port := _unusual_port(found, made)) is not None:
        sys.stderr.write(
            f"A running gateway that confines itself connects to port {port} after a restart: `issuer` in `auth`"
            " makes it permanent.\n"
        )
    state = state_of(made, now=time(), agent=arguments.agent)
    _write([f"Signed in to {_name(found.name, arguments.agent)}: {_words(state, time())}."])
    return OK


async def logout(arguments: argparse.Namespace, config: Config) -> int:
    """Forgets the sign-in even if it cannot be read or revoked, and says so."""
    found = _server(config, arguments.server, agent=arguments.agent)
    if isinstance(found, str):
        return _complain(found, WRONG)
    files, name = _files(config), _name(found.name, arguments.agent)
    kept, lost = None, "The server has no way to revoke tokens"
    try:
        async with files.locked(found.name, arguments.agent):
            try:
                kept = _kept(files, found, arguments.agent)
            except CredentialError:
                lost = "Its file could not be used to revoke the tokens"
            if not files.delete(found.name, arguments.agent):
                return _complain(f"{name}: this host is not signed in", FAILED)
    except CredentialError as error:
        return _complain(f"{name}: {printable(str(error), limit=600)}", FAILED)
    client = HttpClient()
    try:
        revoked = kept is not None and await revoke(client, kept, _auth(found), now=time())
    except CredentialError as error:
        return _complain(f"{name}: signed out here, but {printable(str(error), limit=600)}", FAILED)
    finally:
        await client.aclose()
    _write(
        [
            f"Signed out of {name}{', and its tokens are revoked.' if revoked else f'. {lost}: they end by themselves.'}"
        ]
    )
    return OK


async def status(arguments: argparse.Namespace, config: Config) -> int:
    """Exits with 1 where a sign-in that was made is of no use any more."""
    wanted = [each for each in config.mcp.servers if not arguments.server or each.name == arguments.server]
    if not wanted:
        return _complain(f"the config names no tool server {arguments.server!r}", WRONG)
    files, now, failed = _files(config), time(), False
    rows: list[tuple[McpServer, SignInState]] = []
    for server in wanted:
        if not server.may_sign_in:
            continue
        for agent in ["", *files.agents(server.name)]:
            try:
                kept = _kept(files, server, agent)
                state = state_of(kept, now=now, agent=agent)
            except CredentialError as error:
                kept, state = None, SignInState(agent=agent, signed_in=False, problem=str(error))
            failed = failed or bool(state.problem) or (kept is not None and not state.signed_in)
            rows.append((server, state))
    if arguments.json:
        found = [{"server": server.name, **msgspec.to_builtins(state)} for server, state in rows]
        _write([msgspec.json.format(msgspec.json.encode(found)).decode()])
    else:
        _write(f"{_name(server.name, state.agent)}: {_line(server, state, now)}" for server, state in rows)
    return FAILED if failed else OK


def _line(server: McpServer, state: SignInState, now: float) -> str:
    if _auth(server).by_itself:
        return "the gateway's own credentials"
    if state.signed_in:
        more = f"; {printable(state.problem, limit=400)}: `{login_command(server.name, state.agent)}`"
        return f"signed in, {_words(state, now)}{more if state.problem else ''}"
    why = f" ({printable(state.problem, limit=400)})" if state.problem else ""
    return f"not signed in{why}: `{login_command(server.name, state.agent)}` if it requires OAuth"


def _words(state: SignInState, now: float) -> str:
    if state.until is None:
        return "until the server ends it"
    at = datetime.fromtimestamp(state.until).astimezone().isoformat(sep=" ", timespec="minutes")
    if state.renews:
        return f"with a token until {at}, renewed by itself"
    return f"until {at}" if state.until > now else f"since {at} without a valid token"


def _server(config: Config, name: str, *, agent: str) -> McpServer | str:
    """The server, or what is wrong with it."""
    found = next((each for each in config.mcp.servers if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in config.mcp.servers)
        return f"the config names no tool server {printable(name)!r}: there are {names}"
    if found.url is None:
        return f"{name} is a command, which needs no sign-in"
    if not found.may_sign_in:
        return f"{name} has an authorization in `headers`, or is on a socket: a sign-in would not be used"
    if agent and not _auth(found).per_agent:
        return f'{name} has one sign-in for all: auth = {{ type = "oauth", per_agent = true }} changes that'
    if agent and agent not in {each.name for each in config.agents}:
        return f"the config names no agent {printable(agent)!r}"
    return found


def _unusual_port(server: McpServer, made: SignIn) -> int | None:
    """The port of the token endpoint, where no address of the config has it."""
    port = urlsplit(made.token_endpoint).port
    named = [_auth(server).issuer, "" if server.url is None else server.url.reveal()]
    return None if port in {None, 80, 443, *(urlsplit(url).port for url in named)} else port


def _auth(server: McpServer) -> McpOAuth:
    return server.auth or McpOAuth()


def _kept(files: SignInFiles, server: McpServer, agent: str) -> SignIn | None:
    """The sign-in, unless it is for another address."""
    kept = files.read(server.name, agent)
    return (
        kept if kept is not None and server.url is not None and kept.server == server.url.reveal() else None
    )


def _files(config: Config) -> SignInFiles:
    return SignInFiles(state_folder(config.server.state_folder, environ=os.environ))


def _name(server: str, agent: str) -> str:
    return f"{server} for {agent}" if agent else server


def _write(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _complain(sentence: str, status: int) -> int:
    sys.stderr.write(f"modelplex: {sentence}\n")
    return status
