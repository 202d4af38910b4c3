"""`modelplex mcp`: lists, calls and approves tools without a running gateway.

Starts the servers itself and stops them again. Escapes control characters of servers. Exits with 0
if all is well, 1 if a server or a tool failed or something waits for approval, 2 for wrong
arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec

from modelplex.config.settings import Config, McpServer
from modelplex.config.state_folder import state_folder
from modelplex.core.caller import Caller
from modelplex.core.errors import without_name
from modelplex.http_client import HttpClient
from modelplex.mcp.approvals import (
    Approval,
    Approvals,
    Judgement,
    Lock,
    LockedServer,
    approved,
    printable,
    says,
)
from modelplex.mcp.catalog import CatalogEntry, MergedCatalog, ServerOffer, merge
from modelplex.mcp.constants import Catalog, Json, Unavailable
from modelplex.mcp.lockfile import (
    LockError,
    launch_of,
    load_approvals,
    lock_path,
    read_seen,
    write_lock,
    write_seen,
)
from modelplex.mcp.names import SEPARATOR, ServerToolName
from modelplex.mcp.policy import decide, permitted
from modelplex.mcp.servers import (
    CACHE_FOLDER,
    ManagedServer,
    ProcessTable,
    ServerRuntime,
    WriteOnlyCache,
)

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2

SHORT: Final = 100
"""Characters of a description in a list."""

T = TypeVar("T")

HOST: Final = Caller(listener="command", kind="unix")
"""The person at the terminal may use every tool that approvals do not hold back."""


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Carries out one of the subcommands; returns the exit status."""
    if not config.mcp.servers:
        return _wrong("the config names no tool servers: each is a table [[mcp.servers]]")
    try:
        return asyncio.run(_COMMANDS[arguments.mcp](arguments, config))
    except LockError as error:
        return _wrong(error.sentence)


class InspectedServer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers now, or why it could not be asked, and the last lines it wrote."""

    config: McpServer
    catalog: Catalog | None = None
    error: str | None = None
    said: tuple[str, ...] = ()


class InspectedServers:
    """All servers that were asked, judged by the present approvals."""

    def __init__(self, config: Config, sights: Sequence[InspectedServer]) -> None:
        self.config = config
        self.folder = state_folder(config.server.state_folder, environ=os.environ)
        self.sights = sights
        self.approvals = load_approvals(config, state_folder=self.folder)
        self.catalogs = {sight.config.name: sight.catalog for sight in sights if sight.catalog is not None}
        self.judgements = {
            sight.config.name: self._judge(sight) for sight in sights if sight.catalog is not None
        }
        self.merged = self._merged(held=True)
        self.open = self._merged(held=False)
        """As if everything were approved."""

    @property
    def failed(self) -> bool:
        return any(sight.error for sight in self.sights)

    def _judge(self, sight: InspectedServer) -> Judgement:
        assert sight.catalog is not None
        others = [
            name
            for server, catalog in self.catalogs.items()
            if server != sight.config.name
            for tool in catalog.tools
            if isinstance(own := tool.get("name"), str)
            for name in (own, server + SEPARATOR + own)
        ]
        return self.approvals.judge(
            sight.config.name, sight.catalog, launch=launch_of(sight.config), others=others
        )

    def _merged(self, *, held: bool) -> MergedCatalog:
        offers: list[ServerOffer] = []
        for sight in self.sights:
            if sight.catalog is None:
                continue
            judgement = self.judgements[sight.config.name]
            offers.append(
                ServerOffer(
                    server=sight.config.name,
                    catalog=sight.catalog,
                    globs=sight.config.tools,
                    held_tools=judgement.held_tools if held else frozenset(),
                    held_prompts=judgement.held_prompts if held else frozenset(),
                    held_instructions=judgement.held_instructions and held,
                )
            )
        return merge(offers, prefix=self.config.mcp.prefix, limit=self.config.mcp.name_limit)

    def name(self, pin: Approval) -> str:
        """The name that a person types for it."""
        if pin.kind == "instructions":
            return pin.server
        names = self.open.names if pin.kind == "tool" else self.open.prompt_names
        return names.exposed(pin.server, pin.name) or pin.server + SEPARATOR + pin.name

    def waiting(self) -> list[Approval]:
        """New or changed definitions that the host's globs allow."""
        globs = {sight.config.name: sight.config.tools for sight in self.sights}
        return [
            pin
            for judgement in self.judgements.values()
            for pin in judgement.entries
            if pin.state != "approved" and (pin.kind != "tool" or permitted(pin.name, globs[pin.server]))
        ]


async def _with_servers(
    config: Config, wanted: Sequence[McpServer], use: Callable[[dict[str, ManagedServer]], Awaitable[T]]
) -> T:
    client = HttpClient()
    children = ProcessTable(config.mcp.max_processes)
    # The cache serves the next start of a gateway with the same config.
    cache = WriteOnlyCache(state_folder(config.server.state_folder, environ=os.environ) / CACHE_FOLDER)
    runtime = ServerRuntime(client=client, children=children)
    servers = {
        each.name: ManagedServer(each, limits=config.mcp, cache=cache, runtime=runtime) for each in wanted
    }
    try:
        return await use(servers)
    finally:
        await asyncio.gather(*(server.close() for server in servers.values()))
        await children.aclose()
        await client.aclose()


async def _inspect_all(servers: Iterable[ManagedServer]) -> list[InspectedServer]:
    return list(await asyncio.gather(*(_inspect(server) for server in servers)))


async def _inspect(server: ManagedServer) -> InspectedServer:
    """What it offers."""
    try:
        return InspectedServer(config=server.config, catalog=await server.lists(fresh=True))
    except Unavailable as error:
        sentence = without_name(error.sentence, server.config.name)
        return InspectedServer(config=server.config, error=sentence, said=server.status().last_words)


async def _all_seen(config: Config) -> InspectedServers:
    async def use(servers: dict[str, ManagedServer]) -> list[InspectedServer]:
        return await _inspect_all(servers.values())

    return InspectedServers(config, await _with_servers(config, config.mcp.servers, use))


async def _list(arguments: argparse.Namespace, config: Config) -> int:
    seen = await _all_seen(config)
    if arguments.json:
        _write([msgspec.json.format(msgspec.json.encode({"servers": _as_json(seen)})).decode()])
    else:
        _write(_list_lines(seen))
    for warned in seen.open.warnings:
        _complain(f"{warned.server}: {printable(without_name(warned.sentence, warned.server), most=400)}")
    return FAILED if seen.failed else OK


def _list_lines(seen: InspectedServers) -> Iterable[str]:
    for sight in seen.sights:
        name = sight.config.name
        if sight.catalog is None:
            yield f"{name}: {printable(sight.error or '', most=400)}"
            yield from _printable_lines(sight.said)
            continue
        entries = [entry for entry in seen.open.entries("tools") if entry.server == name]
        who = says(sight.catalog)
        yield f"{name} ({who + ', ' if who else ''}{printable(sight.catalog.version)}): {_many(len(entries), 'tool')}"
        wide = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            yield f"  {entry.name:<{wide}}  {_summary(entry)}{_mark(seen, entry)}".rstrip()
        for kind, word in (
            ("prompts", "prompt"),
            ("resources", "resource"),
            ("resourceTemplates", "template"),
        ):
            if some := [entry for entry in seen.open.entries(kind) if entry.server == name]:  # type: ignore[arg-type]
                yield f"  {_many(len(some), word)}: {', '.join(printable(entry.name) for entry in some)}"


def _summary(entry: CatalogEntry) -> str:
    description = str(entry.definition.get("description") or "").strip().partition("\n")[0]
    return printable(description, most=SHORT) + ("..." if len(description) > SHORT else "")


def _mark(seen: InspectedServers, entry: CatalogEntry) -> str:
    pin = seen.judgements[entry.server].pin("tool", entry.own)
    if pin is None:
        return ""
    marks: list[str] = [pin.state] if pin.state != "approved" else []
    marks += sorted({finding.kind for finding in pin.findings})
    return f"  [{', '.join(marks)}]" if marks else ""


def _as_json(seen: InspectedServers) -> list[Json]:
    rows: list[Json] = []
    for sight in seen.sights:
        one: Json = {"name": sight.config.name, "error": sight.error}
        if sight.said:
            one["stderr"] = sight.said
        if sight.catalog is not None:
            one |= {
                "says": says(sight.catalog),
                "version": sight.catalog.version,
                "tools": [
                    _tool_as_json(seen, entry)
                    for entry in seen.open.entries("tools")
                    if entry.server == sight.config.name
                ],
            }
        rows.append(one)
    return rows


def _tool_as_json(seen: InspectedServers, entry: CatalogEntry) -> Json:
    pin = seen.judgements[entry.server].pin("tool", entry.own)
    pinned: Json = {}
    if pin is not None:
        pinned = {
            "state": pin.state,
            "hash": pin.hash,
            "findings": [finding.sentence for finding in pin.findings],
        }
    return {**entry.definition, "own": entry.own, **pinned}


async def _call(arguments: argparse.Namespace, config: Config) -> int:
    written = sys.stdin.read() if arguments.arguments == "-" else arguments.arguments
    try:
        given = msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _wrong('the arguments are not a JSON object, such as \'{"path": "."}\'')
    # With prefixes, a name tells its server, and no other is started.
    server = arguments.tool.partition(SEPARATOR)[0]
    wanted = [each for each in config.mcp.servers if not config.mcp.prefix or each.name == server]

    async def use(servers: dict[str, ManagedServer]) -> int:
        sights = await _inspect_all(servers.values())
        for sight in sights:
            if sight.error:
                _complain(f"{sight.config.name}: {printable(sight.error, most=400)}")
                _write_errors(_printable_lines(sight.said))
        seen = InspectedServers(config, sights)
        found = seen.open.names.find(arguments.tool)
        if found is None:
            return (
                FAILED
                if seen.failed
                else _wrong(
                    f"there is no tool {printable(arguments.tool)}: `modelplex mcp list` says which there are"
                )
            )
        if refusal := _refusal(seen, found):
            return _failed(refusal)
        params = {"name": found.name, "arguments": given}
        try:
            reply = await servers[found.server].request("tools/call", params)
        except Unavailable as error:
            sentence = without_name(error.sentence, found.server)
            status = _failed(f"{found.server}: {printable(sentence, most=400)}")
            _write_errors(_printable_lines(servers[found.server].status().last_words))
            return status
        if reply.error is not None:
            return _failed(
                f"{found.server} answered: {printable(str(reply.error.get('message')), most=2000)}"
            )
        result = reply.result or {}
        _write([msgspec.json.encode(result).decode()] if arguments.json else _result(result))
        return FAILED if result.get("isError") is True else OK

    return await _with_servers(config, wanted, use)


def _refusal(seen: InspectedServers, tool: ServerToolName) -> str | None:
    judgement = seen.judgements[tool.server]
    pin = judgement.pin("tool", tool.name)
    decision = decide(
        HOST,
        server=tool.server,
        method="tools/call",
        name=tool.name,
        pinned=pin.state if pin else "approved",
        locked=judgement.mode == "locked",
    )
    return None if decision.allowed else decision.reason


def _result(result: Json) -> Iterable[str]:
    """A result for people: its texts, a word for other content, and structured content if there is
    nothing else.
    """
    given: object = result.get("content")
    content = [
        cast("Json", block)
        for block in (cast("list[object]", given) if isinstance(given, list) else [])
        if isinstance(block, dict)
    ]
    for block in content:
        match block.get("type"):
            case "text":
                yield _for_terminal(str(block.get("text", "")))
            case "resource_link":
                yield f"[link to {printable(str(block.get('uri')), most=400)}]"
            case "resource":
                inside: object = block.get("resource")
                resource = cast("Json", inside) if isinstance(inside, dict) else {}
                yield (
                    _for_terminal(str(resource["text"]))
                    if "text" in resource
                    else f"[resource {printable(str(resource.get('uri')))}]"
                )
            case other:
                size = len(str(block.get("data", ""))) * 3 // 4
                yield f"[{printable(str(other))} {printable(str(block.get('mimeType', '')))}, {size} bytes: --json shows it]"
    if not content and "structuredContent" in result:
        yield msgspec.json.format(msgspec.json.encode(result["structuredContent"])).decode()


def _for_terminal(text: str) -> str:
    """Unchanged for a program that reads it; escaped for a terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in text)


async def _lock(arguments: argparse.Namespace, config: Config) -> int:  # noqa: ARG001 - one form for all
    seen = await _all_seen(config)
    path = lock_path(config)
    before = seen.approvals.lock
    locked: Lock = {}
    left: list[Approval] = []
    for sight in seen.sights:
        name = sight.config.name
        if sight.catalog is None:
            _complain(
                f"{name}: {printable(sight.error or '', most=400)}; what is locked of it stays as it is"
            )
            _write_errors(_printable_lines(sight.said))
            if name in before:
                locked[name] = before[name]
            continue
        known = before.get(name, LockedServer())
        # In other modes the approvals do not reflect the lock file, so it is judged by itself.
        judgement = Approvals(mode="locked", lock=before).judge(name, sight.catalog)
        suspicious = {
            (pin.kind, pin.name) for pin in seen.judgements[name].entries or judgement.entries if pin.findings
        }
        held = [
            pin for pin in judgement.entries if pin.state != "approved" and (pin.kind, pin.name) in suspicious
        ]
        left += [_with_findings(pin, seen.judgements[name]) for pin in held]
        locked[name] = _locked(sight, known, held=held)
        _write(_differences(name, known, locked[name]))
    _store(write_lock, path, locked)
    count = sum(len(server.tools) for server in locked.values())
    _write([f"{path}: {_many(count, 'tool')} of {_many(len(locked), 'server')} approved"])
    _write(_pin_lines(seen, left))
    return FAILED if seen.failed or left else OK


def _with_findings(pin: Approval, judgement: Judgement) -> Approval:
    judged = judgement.pin(pin.kind, pin.name)
    return msgspec.structs.replace(pin, findings=judged.findings) if judged else pin


def _locked(sight: InspectedServer, known: LockedServer, *, held: Sequence[Approval]) -> LockedServer:
    """A whole catalog except `held`, of which earlier approvals stay."""
    assert sight.catalog is not None
    tools = {pin.name: known.tools.get(pin.name) for pin in held if pin.kind == "tool"}
    prompts = {pin.name: known.prompts.get(pin.name) for pin in held if pin.kind == "prompt"}
    instructions = not any(pin.kind == "instructions" for pin in held)
    whole = approved(_launched(sight), sight.catalog)
    return msgspec.structs.replace(
        whole,
        instructions=whole.instructions if instructions else known.instructions,
        tools=_replaced(whole.tools, tools),
        prompts=_replaced(whole.prompts, prompts),
    )


def _replaced(hashes: dict[str, str], held: dict[str, str | None]) -> dict[str, str]:
    kept = {name: hash_ for name, hash_ in hashes.items() if name not in held}
    return kept | {name: hash_ for name, hash_ in held.items() if hash_ is not None}


def _launched(sight: InspectedServer) -> LockedServer:
    return LockedServer(launch=launch_of(sight.config), command=sight.config.command or "")


def _differences(server: str, before: LockedServer, after: LockedServer) -> Iterable[str]:
    for old, new in ((before.tools, after.tools), (before.prompts, after.prompts)):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                word = (
                    "approved" if name not in old else "removed" if name not in new else "approved as changed"
                )
                yield f"{server}: {printable(name)}: {word}"


async def _approve(arguments: argparse.Namespace, config: Config) -> int:
    seen = await _all_seen(config)
    for sight in seen.sights:
        if sight.error:
            _complain(f"{sight.config.name}: {printable(sight.error, most=400)}")
            _write_errors(_printable_lines(sight.said))
    if seen.approvals.mode == "off":
        return _wrong('[mcp] pinning is "off": nothing waits for approval')
    waiting = seen.waiting()
    globs: list[str] = ["*"] if arguments.all else arguments.tools
    if not globs:
        _write(_pin_lines(seen, waiting) if waiting else ["nothing waits for approval"])
        return FAILED if waiting or seen.failed else OK
    chosen = [pin for pin in waiting if permitted(seen.name(pin), globs)]
    unknown = [
        glob
        for glob in globs
        if not arguments.all and not any(permitted(seen.name(pin), [glob]) for pin in waiting)
    ]
    if unknown:
        return _wrong(f"nothing that waits for approval is called {', '.join(map(printable, unknown))}")
    if seen.approvals.mode == "locked":
        _store(write_lock, lock_path(config), _approved(seen, seen.approvals.lock, chosen))
    else:
        _store(write_seen, seen.folder, _approved(seen, read_seen(seen.folder), chosen))
    _write(f"approved: {seen.name(pin)}" for pin in chosen)
    return FAILED if seen.failed else OK


def _approved(seen: InspectedServers, lock: Lock, chosen: Sequence[Approval]) -> Lock:
    now = dict(lock)
    for sight in seen.sights:
        mine = [pin for pin in chosen if pin.server == sight.config.name]
        if not mine or sight.catalog is None:
            continue
        now[sight.config.name] = approved(
            now.get(sight.config.name) or _launched(sight),
            sight.catalog,
            tools={pin.name for pin in mine if pin.kind == "tool"},
            prompts={pin.name for pin in mine if pin.kind == "prompt"},
            instructions=any(pin.kind == "instructions" for pin in mine),
        )
    return now


def _pin_lines(seen: InspectedServers, waiting: Sequence[Approval]) -> Iterable[str]:
    for pin in waiting:
        what = "" if pin.kind == "tool" else f" ({pin.kind})"
        state = "has changed since it was approved" if pin.state == "changed" else "is new"
        yield f"{printable(seen.name(pin))}{what} {state}"
        yield from (f"  {finding.sentence}" for finding in pin.findings)
    if waiting:
        yield "`modelplex mcp approve NAME` approves one, --all approves all"


def _store(write: Callable[[Path, T], None], path: Path, what: T) -> None:
    try:
        write(path, what)
    except OSError as error:
        raise LockError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


_COMMANDS: Final = {"list": _list, "call": _call, "lock": _lock, "approve": _approve}


def _write(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _write_errors(lines: Iterable[str]) -> None:
    sys.stderr.writelines(f"{line}\n" for line in lines)


def _printable_lines(lines: Iterable[str]) -> Iterable[str]:
    """The last lines of a server's stderr, escaped."""
    return (f"  stderr: {printable(line, most=400)}" for line in lines)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _complain(sentence: str) -> None:
    sys.stderr.write(f"modelplex: {sentence}\n")


def _failed(sentence: str) -> int:
    _complain(sentence)
    return FAILED


def _wrong(sentence: str) -> int:
    _complain(sentence)
    return WRONG
