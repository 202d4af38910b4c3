"""`modelplex mcp`: lists, calls and approves tools without a running gateway.

Starts the servers itself and stops them again. Escapes control characters of servers. Exits with 0
if all is well, 1 if a server or a tool failed or something waits for approval, 2 for wrong
arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from modelplex.config.settings import Config
from modelplex.core.caller import Caller
from modelplex.core.errors import without_name
from modelplex.dialects.core.json import as_list, as_object
from modelplex.mcp.approvals import Approval, Approvals, Judgement, Lock, LockedServer, approved, says
from modelplex.mcp.approvals import Kind as ApprovalKind
from modelplex.mcp.catalog import CatalogEntry
from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.definition_scan import printable
from modelplex.mcp.inspection import InspectedServer, InspectedServers, inspect, inspect_all, with_servers
from modelplex.mcp.lockfile import LockError, launch_of, lock_path, read_seen, write_lock, write_seen
from modelplex.mcp.names import SEPARATOR, ServerToolName
from modelplex.mcp.oauth.commands import login, logout, status
from modelplex.mcp.policy import decide, permitted
from modelplex.mcp.review import keep_locked
from modelplex.mcp.servers.server import ManagedServer
from modelplex.mcp.shapes import Kind

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2

DESCRIPTION_LENGTH: Final = 100
"""Characters of a description in a list."""

T = TypeVar("T")

HOST: Final = Caller(listener="command", kind="unix")
"""The person at the terminal may use every tool that approvals do not hold back."""


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Carry out one of the subcommands; returns the exit status."""
    if not config.mcp.servers:
        return _wrong("the config names no tool servers: each is a table [[mcp.servers]]")
    try:
        return asyncio.run(_COMMANDS[arguments.mcp](arguments, config))
    except LockError as error:
        return _wrong(error.sentence)


_OTHER_KINDS: Final[Mapping[Kind, str]] = {
    "prompts": "prompt",
    "resources": "resource",
    "resourceTemplates": "template",
}


async def _list(arguments: argparse.Namespace, config: Config) -> int:
    inspected = await inspect_all(config)
    if arguments.json:
        _write([msgspec.json.format(msgspec.json.encode({"servers": _as_json(inspected)})).decode()])
    else:
        _write(_list_lines(inspected))
    for warning in inspected.merged.warnings:
        sentence = without_name(warning.sentence, warning.server)
        _complain(f"{warning.server}: {printable(sentence, limit=400)}")
    return FAILED if inspected.failed else OK


def _list_lines(inspected: InspectedServers) -> Iterable[str]:
    for server in inspected.servers:
        name = server.config.name
        if server.catalog is None:
            yield f"{name}: {printable(server.error or '', limit=400)}"
            yield from _printable_lines(server.stderr)
            continue
        entries = [entry for entry in inspected.merged.entries("tools") if entry.server == name]
        label = ", ".join(filter(None, (says(server.catalog), printable(server.catalog.version))))
        yield f"{name} ({label}): {_many(len(entries), 'tool')}"
        width = max((len(entry.name) for entry in entries), default=0)
        for entry in entries:
            yield f"  {entry.name:<{width}}  {_summary(entry)}{_mark(inspected, entry)}".rstrip()
        for kind, word in _OTHER_KINDS.items():
            if others := [entry for entry in inspected.merged.entries(kind) if entry.server == name]:
                names = ", ".join(printable(entry.name) for entry in others)
                yield f"  {_many(len(others), word)}: {names}"


def _summary(entry: CatalogEntry) -> str:
    description = str(entry.definition.get("description") or "").strip().partition("\n")[0]
    cut = "..." if len(description) > DESCRIPTION_LENGTH else ""
    return printable(description, limit=DESCRIPTION_LENGTH) + cut


def _mark(inspected: InspectedServers, entry: CatalogEntry) -> str:
    approval = inspected.judgements[entry.server].find("tool", entry.own)
    if approval is None:
        return ""
    marks: list[str] = [approval.state] if approval.state != "approved" else []
    marks += sorted({finding.kind for finding in approval.findings})
    return f"  [{', '.join(marks)}]" if marks else ""


def _as_json(inspected: InspectedServers) -> list[Json]:
    rows: list[Json] = []
    for server in inspected.servers:
        one: Json = {"name": server.config.name, "error": server.error}
        if server.stderr:
            one["stderr"] = server.stderr
        if server.catalog is not None:
            one |= {
                "says": says(server.catalog),
                "version": server.catalog.version,
                "tools": [
                    _tool_as_json(inspected, entry)
                    for entry in inspected.merged.entries("tools")
                    if entry.server == server.config.name
                ],
            }
        rows.append(one)
    return rows


def _tool_as_json(inspected: InspectedServers, entry: CatalogEntry) -> Json:
    approval = inspected.judgements[entry.server].find("tool", entry.own)
    row: Json = {**entry.definition, "own": entry.own}
    if approval is not None:
        findings = [finding.sentence for finding in approval.findings]
        row |= {"state": approval.state, "hash": approval.hash, "findings": findings}
    return row


async def _call(arguments: argparse.Namespace, config: Config) -> int:
    text = sys.stdin.read() if arguments.arguments == "-" else arguments.arguments
    try:
        tool_arguments = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _wrong('the arguments are not a JSON object, such as \'{"path": "."}\'')
    # A prefixed name holds its server's name, and no other server is started.
    name = arguments.tool.partition(SEPARATOR)[0]
    wanted = [each for each in config.mcp.servers if not config.mcp.prefix or each.name == name]

    async def use(servers: dict[str, ManagedServer]) -> int:
        inspected = InspectedServers(config, await inspect(servers.values()))
        _report_failures(inspected)
        found = inspected.merged.names.find(arguments.tool)
        if found is None and inspected.failed:
            return FAILED
        if found is None:
            name = printable(arguments.tool)
            return _wrong(f"there is no tool {name}: `modelplex mcp list` lists the tools")
        if refusal := _refusal(inspected, found):
            return _failed(refusal)
        params = {"name": found.name, "arguments": tool_arguments}
        try:
            reply = await servers[found.server].request("tools/call", params)
        except Unavailable as error:
            sentence = without_name(error.sentence, found.server)
            _complain(f"{found.server}: {printable(sentence, limit=400)}")
            _write_errors(_printable_lines(servers[found.server].status().last_words))
            return FAILED
        if reply.error is not None:
            message = printable(str(reply.error.get("message")), limit=2000)
            return _failed(f"{found.server} answered: {message}")
        result = reply.result or {}
        _write([msgspec.json.encode(result).decode()] if arguments.json else _result(result))
        return FAILED if result.get("isError") is True else OK

    return await with_servers(config, wanted, use)


def _report_failures(inspected: InspectedServers) -> None:
    for server in inspected.servers:
        if server.error:
            _complain(f"{server.config.name}: {printable(server.error, limit=400)}")
            _write_errors(_printable_lines(server.stderr))


def _refusal(inspected: InspectedServers, tool: ServerToolName) -> str | None:
    judgement = inspected.judgements[tool.server]
    approval = judgement.find("tool", tool.name)
    decision = decide(
        HOST,
        server=tool.server,
        method="tools/call",
        name=tool.name,
        state=approval.state if approval else "approved",
        locked=judgement.mode == "locked",
    )
    return None if decision.allowed else decision.reason


def _result(result: Json) -> Iterable[str]:
    """A result for people: its texts, a description of other content, and structured content if
    there is nothing else.
    """
    objects = [block for block in map(as_object, as_list(result.get("content"))) if block is not None]
    for block in objects:
        match block.get("type"):
            case "text":
                yield _for_terminal(str(block.get("text", "")))
            case "resource_link":
                yield f"[link to {printable(str(block.get('uri')), limit=400)}]"
            case "resource":
                resource = as_object(block.get("resource")) or {}
                yield (
                    _for_terminal(str(resource["text"]))
                    if "text" in resource
                    else f"[resource {printable(str(resource.get('uri')))}]"
                )
            case other:
                size = len(str(block.get("data", ""))) * 3 // 4
                yield f"[{printable(str(other))} {printable(str(block.get('mimeType', '')))}, {size} bytes: --json shows it]"
    if not objects and "structuredContent" in result:
        yield msgspec.json.format(msgspec.json.encode(result["structuredContent"])).decode()


def _for_terminal(text: str) -> str:
    """Unchanged for a program that reads it; escaped for a terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in text)


async def _lock(arguments: argparse.Namespace, config: Config) -> int:  # noqa: ARG001 - one form for all
    inspected = await inspect_all(config)
    path = lock_path(config)
    before = inspected.approvals.lock
    locked: Lock = {}
    left: list[Approval] = []
    for server in inspected.servers:
        name = server.config.name
        if server.catalog is None:
            error = printable(server.error or "", limit=400)
            _complain(f"{name}: {error}; its entries in the lock file stay as they are")
            _write_errors(_printable_lines(server.stderr))
            if name in before:
                locked[name] = before[name]
            continue
        stored = before.get(name, LockedServer())
        # In other modes the approvals do not reflect the lock file, so it is judged by itself.
        judgement = Approvals(mode="locked", lock=before).judge(name, server.catalog)
        found = inspected.judgements[name]
        suspicious = {(each.kind, each.name) for each in found.entries or judgement.entries if each.findings}
        held = [
            each
            for each in judgement.entries
            if each.state != "approved" and (each.kind, each.name) in suspicious
        ]
        left += [_with_findings(each, found) for each in held]
        locked[name] = _locked(server, stored, held=held)
        _write(_differences(name, stored, locked[name]))
    _store(write_lock, path, locked)
    _keep_texts(inspected, locked)
    count = sum(len(server.tools) for server in locked.values())
    _write([f"{path}: {_many(count, 'tool')} of {_many(len(locked), 'server')} approved"])
    _write(_waiting_lines(inspected, left))
    return FAILED if inspected.failed or left else OK


def _with_findings(approval: Approval, judgement: Judgement) -> Approval:
    judged = judgement.find(approval.kind, approval.name)
    return msgspec.structs.replace(approval, findings=judged.findings) if judged else approval


def _locked(server: InspectedServer, stored: LockedServer, *, held: Sequence[Approval]) -> LockedServer:
    """A whole catalog except `held`, of which earlier approvals stay."""
    assert server.catalog is not None
    whole = approved(_launched(server), server.catalog)

    def without_held(kind: ApprovalKind, hashes: dict[str, str], before: dict[str, str]) -> dict[str, str]:
        names = {each.name for each in held if each.kind == kind}
        kept = {name: hash_ for name, hash_ in hashes.items() if name not in names}
        return kept | {name: before[name] for name in names if name in before}

    instructions = stored if any(each.kind == "instructions" for each in held) else whole
    return msgspec.structs.replace(
        whole,
        instructions=instructions.instructions,
        tools=without_held("tool", whole.tools, stored.tools),
        prompts=without_held("prompt", whole.prompts, stored.prompts),
    )


def _launched(server: InspectedServer) -> LockedServer:
    return LockedServer(launch=launch_of(server.config), command=server.config.command or "")


def _differences(server: str, before: LockedServer, after: LockedServer) -> Iterable[str]:
    for old, new in ((before.tools, after.tools), (before.prompts, after.prompts)):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                word = (
                    "approved" if name not in old else "removed" if name not in new else "approved as changed"
                )
                yield f"{server}: {printable(name)}: {word}"


async def _approve(arguments: argparse.Namespace, config: Config) -> int:
    inspected = await inspect_all(config)
    _report_failures(inspected)
    if inspected.approvals.mode == "off":
        return _wrong('[mcp] pinning is "off": nothing waits for approval')
    waiting = inspected.waiting()
    globs: list[str] = ["*"] if arguments.all else arguments.tools
    if not globs:
        _write(_waiting_lines(inspected, waiting) if waiting else ["nothing waits for approval"])
        return FAILED if waiting or inspected.failed else OK
    chosen = [each for each in waiting if permitted(inspected.name(each), globs)]
    unknown = [glob for glob in globs if not any(permitted(inspected.name(each), [glob]) for each in waiting)]
    if unknown and not arguments.all:
        return _wrong(f"nothing that waits for approval is called {', '.join(map(printable, unknown))}")
    if inspected.approvals.mode == "locked":
        now = _approved(inspected, inspected.approvals.lock, chosen)
        _store(write_lock, lock_path(config), now)
    else:
        now = _approved(inspected, read_seen(inspected.folder), chosen)
        _store(write_seen, inspected.folder, now)
    _keep_texts(inspected, now)
    _write(f"approved: {inspected.name(each)}" for each in chosen)
    return FAILED if inspected.failed else OK


def _approved(inspected: InspectedServers, lock: Lock, chosen: Sequence[Approval]) -> Lock:
    now = dict(lock)
    for server in inspected.servers:
        mine = [each for each in chosen if each.server == server.config.name]
        if not mine or server.catalog is None:
            continue
        now[server.config.name] = approved(
            now.get(server.config.name) or _launched(server),
            server.catalog,
            tools={each.name for each in mine if each.kind == "tool"},
            prompts={each.name for each in mine if each.kind == "prompt"},
            instructions=any(each.kind == "instructions" for each in mine),
        )
    return now


def _waiting_lines(inspected: InspectedServers, waiting: Sequence[Approval]) -> Iterable[str]:
    for each in waiting:
        kind = "" if each.kind == "tool" else f" ({each.kind})"
        state = "has changed since it was approved" if each.state == "changed" else "is new"
        yield f"{printable(inspected.name(each))}{kind} {state}"
        yield from (f"  {finding.sentence}" for finding in each.findings)
    if waiting:
        yield "`modelplex mcp approve NAME` approves one, --all approves all"


def _keep_texts(inspected: InspectedServers, lock: Lock) -> None:
    """Keep the texts of what is approved now: the page shows them beside a later change."""
    catalogs = {each.config.name: each.catalog for each in inspected.servers if each.catalog is not None}
    try:
        keep_locked(catalogs, lock, inspected.folder)
    except OSError as error:
        _complain(f"the definitions' texts cannot be kept: {(error.strerror or str(error)).lower()}")


def _store(write: Callable[[Path, T], None], path: Path, content: T) -> None:
    try:
        write(path, content)
    except OSError as error:
        raise LockError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


_COMMANDS: Final = {
    "list": _list,
    "call": _call,
    "lock": _lock,
    "approve": _approve,
    "login": login,
    "logout": logout,
    "status": status,
}


def _write(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _write_errors(lines: Iterable[str]) -> None:
    sys.stderr.writelines(f"{line}\n" for line in lines)


def _printable_lines(lines: Iterable[str]) -> Iterable[str]:
    """The last lines of a server's stderr, escaped."""
    return (f"  stderr: {printable(line, limit=400)}" for line in lines)


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
