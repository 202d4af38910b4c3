"""What is wrong with a config that can be loaded: settings that do nothing, that mean something
else than they say, or that will fail later.

Above it stands `cli`, for `modelplex check`; below it the config and the table of who serves what.
It reads the config file once more, for what a value was before `${NAME}` was filled in, and looks
at the files, folders and programs that the config names. It sends nothing. No finding holds a
secret.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal, cast

import msgspec

from modelplex.config import Config, ConfigFault, provider_types
from modelplex.config.address import same_origin
from modelplex.config.toml_positions import Path as Place
from modelplex.config.toml_positions import dotted, line_of, places
from modelplex.core.errors import UnknownModel
from modelplex.pipeline.model_catalog import directory_of
from modelplex.policy.bounds import AllowEntry, bounds_of, limit_for
from modelplex.providers import demo
from modelplex.records.unpriced import unpriced_models
from modelplex.routing.aliases import Directory, ServedModels, is_pattern, resolve

Severity = Literal["error", "warning"]

MOST_SOCKET_BYTES: Final = 107
"""Bytes of a socket's path: `sun_path` has 108 on Linux, and the last is the NUL."""

SHORTEST_KEY: Final = 8
"""Characters. What is shorter is a word for a server that wants none, such as "none" or "ollama".
"""

NOT_FILLED: Final = re.compile(
    r"""\$(?P<shell>[A-Za-z_]\w*)
      | os\.environ(?:/|\[['"]|\.get\(['"])(?P<python>[A-Za-z_]\w*)['"\])]*
      | process\.env\.(?P<node>[A-Za-z_]\w*)
      | \{?env[:.](?P<env>[A-Za-z_]\w*)\}?
      | %(?P<windows>[A-Za-z_]\w*)%
      | \{\{\s*(?P<template>[A-Za-z_]\w*)\s*\}\}
    """,
    re.VERBOSE,
)
"""How other programs name a variable. Here it is `${NAME}`, and all else is the key itself."""

PLACEHOLDER: Final = re.compile(
    r"""(?:sk-|sk-ant-|sk-proj-|gsk_|AIza)?(?:\.{3,}|\u2026|x{3,}|\*{3,}|0{8,}|1234\w*)
      | <[^<>]*> | \[[^][]*\]
      | .{0,20}your[\w -]{0,40}(?:key|token|secret).{0,20} | my[-_ ]?(?:api[-_ ]?)?(?:key|token|secret)
      | (?:sk-)?(?:change[-_ ]?me|replace[-_ ]?me|placeholder|todo|fixme|secret|password|insert.*here|paste.*here|api[-_]?key)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What documentation writes in the place of a key."""


NAMED_MODELS: Final = 5
"""Models that one finding names."""


class ConfigFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing. An error will fail, or does not do what was written; a warning may be meant.

    code      stays the same across versions
    file      None where there is no file
    line      from 1; None where no line is to blame
    key       the path of the setting, such as `providers[0].api_key`; an option of the command line
              by its name; "" for the whole
    """

    severity: Severity
    code: str
    file: str | None
    line: int | None
    key: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        words = f"{self.message}; {self.remedy}" if self.remedy else self.message
        return ": ".join(filter(None, (place, self.severity, self.key, words))) + f" [{self.code}]"


def of_faults(faults: Sequence[ConfigFault]) -> list[ConfigFinding]:
    """What keeps a config from being loaded at all, in the same form."""
    return [
        ConfigFinding(
            severity="error",
            code="invalid-config",
            file=fault.file,
            line=fault.line,
            key=fault.key,
            message=f"expected {fault.expected}"
            + (f", found {fault.found}" if fault.found is not None else ""),
            remedy=fault.hint or "",
        )
        for fault in faults
    ]


def lint(
    config: Config, *, environ: Mapping[str, str], overridden: Sequence[str] = ()
) -> list[ConfigFinding]:
    """All findings, by line. `overridden` are the options of the command line that replaced
    settings of the file, such as "--socket".
    """
    subject = _Subject(config, environ=environ, overridden=overridden)
    found = [finding for check in CHECKS for finding in check(subject)]
    return sorted(found, key=lambda each: (each.line or 0, each.key, each.code))


class _Subject:
    """A config with the text that it came from."""

    def __init__(self, config: Config, *, environ: Mapping[str, str], overridden: Sequence[str]) -> None:
        self.config = config
        self.environ = environ
        self.overridden = overridden
        self.tree: object = {}
        self._lines: Mapping[Place, int] = {}
        if config.path is not None:
            try:
                text = Path(config.path).read_bytes().decode("utf-8-sig")
                self.tree, self._lines = tomllib.loads(text), places(text)
            except (OSError, ValueError):
                pass  # it has changed since it was loaded

    def written(self, *place: str | int) -> object:
        """The value at a place of the file, before anything was filled in; None where there is
        none.
        """
        value = self.tree
        for step in place:
            try:
                value = cast("dict[str | int, object]", value)[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def strings(self, *place: str | int) -> Iterator[tuple[Place, str]]:
        """The string at a place, or each string of the list or the table there."""
        value = self.written(*place)
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, dict):
            for key in cast("dict[str, object]", value):
                yield from self.strings(*place, key)
        elif isinstance(value, list):
            for index in range(len(cast("list[object]", value))):
                yield from self.strings(*place, index)

    def tell(
        self,
        severity: Severity,
        code: str,
        place: Place,
        message: str,
        *,
        remedy: str = "",
        option: str | None = None,
    ) -> ConfigFinding:
        """`option` stands for the place where the command line said it."""
        if option is not None and option in self.overridden:
            return ConfigFinding(
                severity=severity, code=code, file=None, line=None, key=option, message=message, remedy=remedy
            )
        return ConfigFinding(
            severity=severity,
            code=code,
            file=self.config.path,
            line=line_of(place, self._lines),
            key=dotted(place),
            message=message,
            remedy=remedy,
        )


Check = Callable[[_Subject], Iterator[ConfigFinding]]


# --- keys ---


def _secrets(subject: _Subject) -> Iterator[tuple[Place, str]]:
    """Every value that may be a key, as it is written."""
    config = subject.config
    for index in range(len(config.providers)):
        yield from subject.strings("providers", index, "api_key")
        yield from subject.strings("providers", index, "headers")
    yield from subject.strings("server", "internal_token")
    for index in range(len(config.agents)):
        yield from subject.strings("agents", index, "token")
    for index in range(len(config.mcp.servers)):
        yield from subject.strings("mcp", "servers", index, "env")
        yield from subject.strings("mcp", "servers", index, "headers")


def variables_that_are_not_filled_in(subject: _Subject) -> Iterator[ConfigFinding]:
    for place, value in _secrets(subject):
        if found := NOT_FILLED.fullmatch(value.strip()):
            name = next(filter(None, found.groups()))
            yield subject.tell(
                "error",
                "literal-variable",
                place,
                f"the variable {name} is not filled in when it is written like this: the text itself is sent",
                remedy=f'write "${{{name}}}"',
            )


def placeholders(subject: _Subject) -> Iterator[ConfigFinding]:
    types = provider_types()
    for index, provider in enumerate(subject.config.providers):
        usual = types[provider.type].default_base_url
        if not types[provider.type].needs_key or (usual and not same_origin(provider.base_url, usual)):
            continue  # a server of one's own may take anything
        for place, value in subject.strings("providers", index, "api_key"):
            if PLACEHOLDER.fullmatch(value.strip()):
                yield _placeholder(subject, place, "this is a placeholder, and no key")
    for place, value in (
        *subject.strings("server", "internal_token"),
        *(
            found
            for index in range(len(subject.config.agents))
            for found in subject.strings("agents", index, "token")
        ),
    ):
        if PLACEHOLDER.fullmatch(value.strip()):
            yield _placeholder(subject, place, "this token is a placeholder, which anybody can guess")


def _placeholder(subject: _Subject, place: Place, message: str) -> ConfigFinding:
    return subject.tell(
        "error",
        "placeholder-key",
        place,
        message,
        remedy='write "${NAME}" and set that variable to the real one',
    )


def file_of_everybody(subject: _Subject) -> Iterator[ConfigFinding]:
    path = subject.config.path
    if path is None:
        return
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        return
    if mode & stat.S_IWOTH:
        yield subject.tell(
            "error",
            "writable-config",
            (),
            "everybody on this machine may change this file, and so where the keys are sent",
            remedy=f"chmod o-w {path}",
        )
    literal = [
        place
        for place, value in _secrets(subject)
        if ("api_key" in place or place[-1] in {"internal_token", "token"})
        and "${" not in value
        and not NOT_FILLED.fullmatch(value)
        and len(value) >= SHORTEST_KEY
    ]
    if literal and mode & stat.S_IROTH:
        yield subject.tell(
            "warning",
            "readable-keys",
            literal[0],
            "this key stands in a file that everybody on this machine may read",
            remedy=f'chmod 600 {path}, or write "${{NAME}}"',
        )


# --- names ---


def aliases(subject: _Subject) -> Iterator[ConfigFinding]:
    """Targets are asked for as they stand: no alias leads to another."""
    config = subject.config
    directory = _directory(config)
    names = [provider.name for provider in config.providers]
    for alias, targets in config.aliases.items():
        for index, target in enumerate(targets):
            listed = isinstance(subject.written("aliases", alias), list)
            place: Place = ("aliases", alias, index) if listed else ("aliases", alias)
            if is_pattern(target) or _is_direct(directory, target):
                continue
            if target in config.aliases:
                yield _alias_of_alias(subject, alias, target, place)
                continue
            first, slash, _ = target.partition("/")
            meant = get_close_matches(first, names, n=1, cutoff=0.75) if slash and first not in names else []
            if _may_be_served(directory, target) and not meant:
                continue
            yield subject.tell(
                "error",
                "unknown-target",
                place,
                f'no provider here serves "{target}"',
                remedy=f'did you mean "{meant[0]}/{target.partition("/")[2]}"?'
                if meant
                else _near(directory, target),
            )


def _alias_of_alias(subject: _Subject, alias: str, target: str, place: Place) -> ConfigFinding:
    seen, step = [alias], target
    while step in subject.config.aliases and step not in seen:
        seen.append(step)
        step = next(iter(subject.config.aliases[step]), "")
    if step in seen and step in subject.config.aliases:
        loop = " -> ".join([*seen[seen.index(step) :], step])
        return subject.tell(
            "error",
            "alias-loop",
            place,
            f"this alias leads to itself: {loop}",
            remedy="name a model that a provider serves",
        )
    models = ", ".join(f'"{each}"' for each in subject.config.aliases[target])
    return subject.tell(
        "error",
        "alias-of-alias",
        place,
        f'"{target}" is an alias, and no alias leads to another',
        remedy=f"name its models: {models}",
    )


def _directory(config: Config) -> Directory:
    """Who serves what, as far as it is known without asking anybody."""
    types = {provider.name: provider.type for provider in config.providers}
    return msgspec.structs.replace(
        directory_of(config),
        served=tuple(
            msgspec.structs.replace(each, listed=frozenset(demo.MODELS))
            if types[each.provider] == "demo"
            else each
            for each in directory_of(config).served
        ),
    )


def _is_direct(directory: Directory, name: str) -> bool:
    """Whether a provider is known to serve it, or is named in it and may."""
    try:
        found = resolve(Directory(directory.served), name)
    except UnknownModel:
        return False
    known = {each.provider: each for each in directory.served}
    named = directory.provider_of(name)
    return any(
        known[candidate.provider].has(candidate.model)
        or (named is not None and named.provider == candidate.provider)
        for candidate in found
    )


def _may_be_served(directory: Directory, name: str) -> bool:
    try:
        return bool(resolve(Directory(directory.served), name))
    except UnknownModel:
        return False


def _near(directory: Directory, name: str) -> str:
    known = [each for each in directory.model_names() if each not in directory.aliases]
    if near := get_close_matches(name, known, n=1):
        return f'did you mean "{near[0]}"?'
    return 'write "provider/model", or add the model to the models of a provider'


def models_of_agents(subject: _Subject) -> Iterator[ConfigFinding]:
    config = subject.config
    directory = _directory(config)
    if any(_is_open_ended(each) for each in directory.served) or any(map(is_pattern, config.aliases)):
        return  # what a provider lists, or an alias takes, is not known here
    known = [
        *directory.model_names(),
        *(f"{each.provider}/{model}" for each in directory.served for model in each.model_names()),
    ]
    for index, agent in enumerate(config.agents):
        dead = [glob for glob in agent.models if not any(fnmatchcase(name, glob) for name in known)]
        for glob in dead:
            place: Place = ("agents", index, "models", agent.models.index(glob))
            yield subject.tell(
                "error" if len(dead) == len(agent.models) else "warning",
                "unknown-model",
                place,
                f'no model here matches "{glob}"',
                remedy=_near(directory, glob),
            )


def _is_open_ended(served: ServedModels) -> bool:
    return bool(served.patterns) or (not served.configured and served.listed is None)


# --- the sealed policy ---


def bounds_apart(subject: _Subject) -> Iterator[ConfigFinding]:
    """Bounds of one rule that have no domain in common, for an agent or for what is sent to a
    provider.
    """
    config = subject.config
    allow = config.policy.allow
    of_sockets, of_http = (*allow.everywhere, *allow.socket), (*allow.everywhere, *allow.http)
    either = (of_sockets, of_http)
    holders: list[tuple[Place, str, tuple[AllowEntry, ...], tuple[tuple[AllowEntry, ...], ...]]] = [
        *(
            (
                ("agents", n, "allow"),
                f"agent {each.name}",
                each.allow,
                (of_sockets,) if each.token is None else either,
            )
            for n, each in enumerate(config.agents)
        ),
        *(
            (("providers", n, "allow"), f"provider {each.name}", each.allow, either)
            for n, each in enumerate(config.providers)
        ),
    ]
    for place, whom, allowed, listeners in holders:
        for bound in bounds_of(allowed):
            limits = [limit_for(bounds_of((*usual, *allowed)), bound.rule) for usual in listeners]
            if all(limit is not None and limit.domains == () for limit in limits):
                yield subject.tell(
                    "warning",
                    "bounds-apart",
                    place,
                    f"{bound.rule} is open for {whom} within bounds that have no domain in common with those of [policy.allow]: "
                    "each bound holds, so nothing passes",
                    remedy="leave the rule out of [policy.allow], or name a common domain",
                )


def bounds_of_open_callers(subject: _Subject) -> Iterator[ConfigFinding]:
    """Bounds that hold for nobody: they bound the sealed policy, and whom they are written for is
    not sealed.
    """
    config = subject.config
    policy, allow = config.policy, config.policy.allow
    some_agent = any(agent.policy == "sealed" for agent in config.agents)
    sockets, http = policy.socket == "sealed" or some_agent, policy.http == "sealed" or some_agent
    written: list[tuple[Place, tuple[AllowEntry, ...], bool]] = [
        (("policy", "allow", "everywhere"), allow.everywhere, sockets or http),
        (("policy", "allow", "socket"), allow.socket, sockets),
        (("policy", "allow", "http"), allow.http, http),
    ]
    for index, agent in enumerate(config.agents):
        usual = policy.socket == "sealed" or (agent.token is not None and policy.http == "sealed")
        is_sealed = usual if agent.policy is None else agent.policy == "sealed"
        written.append((("agents", index, "allow"), agent.allow, is_sealed))
    for index, provider in enumerate(config.providers):
        written.append((("providers", index, "allow"), provider.allow, sockets or http))
    for place, allowed, is_sealed in written:
        if bounds_of(allowed) and not is_sealed:
            yield subject.tell(
                "error",
                "bounds-unused",
                place,
                "these bounds hold for sealed callers alone, and whom they are written for is not sealed",
                remedy='set the policy of these callers to "sealed", or leave the bounds out',
            )


# --- listeners ---


def open_listeners(subject: _Subject) -> Iterator[ConfigFinding]:
    for index, address in enumerate(subject.config.server.http):
        host = address.rpartition(":")[0].strip("[]")
        try:
            is_open = not ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_open = host != "localhost"
        if is_open:
            yield subject.tell(
                "warning",
                "open-listener",
                _item(subject, "server", "http", index),
                f"whoever reaches {address} uses the providers' keys: callers of HTTP need no token",
                remedy="listen on 127.0.0.1 or on a Unix socket, or let a proxy or a firewall decide who reaches it",
                option="--http",
            )


def _item(subject: _Subject, table: str, key: str, index: int) -> Place:
    """The place of an element, where the file has a list, else of the one value."""
    return (table, key, index) if isinstance(subject.written(table, key), list) else (table, key)


def _sockets(subject: _Subject) -> Iterator[tuple[Place, str, str | None]]:
    """Each Unix socket that will be made: its place, its path, and the option that may have named
    it.
    """
    config = subject.config
    for index, path in enumerate(config.server.socket):
        yield _item(subject, "server", "socket", index), path, "--socket"
    for index, agent in enumerate(config.agents):
        if agent.socket is not None:
            yield ("agents", index, "socket"), agent.socket, None
    if config.mcp.enabled and config.mcp.stdio_socket is not None:
        yield ("mcp", "stdio_socket"), config.mcp.stdio_socket, None


def sockets(subject: _Subject) -> Iterator[ConfigFinding]:
    taken: dict[str, Place] = {}
    for place, path, option in _sockets(subject):
        folder = Path(path).parent
        if not folder.is_dir():
            yield subject.tell(
                "error",
                "missing-folder",
                place,
                f"the folder {folder} for this socket does not exist",
                remedy=f"mkdir -p {folder}",
                option=option,
            )
        elif not _is_socket_or_free(path):
            yield subject.tell(
                "error",
                "not-a-socket",
                place,
                f"{path} is something else than a socket",
                remedy="choose another path",
                option=option,
            )
        if len(os.fsencode(path)) > MOST_SOCKET_BYTES:
            yield subject.tell(
                "error",
                "long-socket-path",
                place,
                f"the path is longer than the {MOST_SOCKET_BYTES} bytes that the system takes",
                remedy="choose a shorter one",
                option=option,
            )
        real = os.path.join(os.path.realpath(folder), os.path.basename(path))  # noqa: PTH118, PTH119 - names are compared, not opened
        if (first := taken.setdefault(real, place)) != place:
            yield subject.tell(
                "error",
                "duplicate-socket",
                place,
                f"it is the same socket as {dotted(first)}",
                remedy="give each a path of its own",
                option=option,
            )


def _is_socket_or_free(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return True


def folders(subject: _Subject) -> Iterator[ConfigFinding]:
    config = subject.config
    kept = config.server.keep_responses
    for place, path in (
        (("log", "file"), config.log.file),
        (("server", "keep_responses"), None if kept == "memory" else kept),
    ):
        if path is not None and not (folder := Path(path).parent).is_dir():
            yield subject.tell(
                "error",
                "missing-folder",
                place,
                f"the folder {folder} for this file does not exist",
                remedy=f"mkdir -p {folder}",
            )


# --- tools ---


def tools_that_are_off(subject: _Subject) -> Iterator[ConfigFinding]:
    mcp = subject.config.mcp
    if mcp.servers and not mcp.enabled:
        yield subject.tell(
            "warning",
            "tools-off",
            ("mcp", "servers", 0),
            f"no tool server is started or served, since [mcp] is off ({len(mcp.servers)} configured)",
            remedy="write enabled = true under [mcp]",
        )


def commands_of_tools(subject: _Subject) -> Iterator[ConfigFinding]:
    for index, server in enumerate(subject.config.mcp.servers):
        if server.command is None:
            continue
        place: Place = ("mcp", "servers", index, "command")
        if server.cwd is not None and not Path(server.cwd).is_dir():
            yield subject.tell(
                "warning",
                "missing-folder",
                ("mcp", "servers", index, "cwd"),
                f"the folder {server.cwd} does not exist",
                remedy=f"mkdir -p {server.cwd}",
            )
        own = server.env.get("PATH")
        path = own.reveal() if own is not None else subject.environ.get("PATH", os.defpath)
        command = server.command
        if "/" in command and server.cwd is not None:
            command = str(Path(server.cwd, command))
        if shutil.which(command, path=path) is None:
            yield subject.tell(
                "warning",
                "missing-command",
                place,
                f'there is no program "{server.command}"' + ("" if "/" in command else " on the PATH"),
                remedy="install it, or write its whole path",
            )


def prices_of_budgets(subject: _Subject) -> Iterator[ConfigFinding]:
    """Budgets in dollars count nothing where no price is known."""
    config = subject.config
    found = unpriced_models(config, directory_of(config))
    for index, agent in enumerate(config.agents):
        mine = [each for each in found if each.agent == agent.name]
        if not mine:
            continue
        names = [
            f"{each.provider}/{each.model}" if each.model else f"all of {each.provider}" for each in mine
        ]
        more = f" and {len(names) - NAMED_MODELS} more" if len(names) > NAMED_MODELS else ""
        then = "requests for them are refused" if mine[0].refused else "the budget counts no dollars for them"
        yield subject.tell(
            "warning",
            "unpriced-budget",
            ("agents", index, "budget"),
            f"no price is known of {', '.join(names[:NAMED_MODELS])}{more}: {then}",
            remedy='name prices in [[prices]], set on_unpriced = "refuse", or give a budget of tokens',
        )


CHECKS: Final[tuple[Check, ...]] = (
    variables_that_are_not_filled_in,
    placeholders,
    file_of_everybody,
    aliases,
    models_of_agents,
    prices_of_budgets,
    bounds_apart,
    bounds_of_open_callers,
    open_listeners,
    sockets,
    folders,
    tools_that_are_off,
    commands_of_tools,
)
