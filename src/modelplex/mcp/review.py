"""Definitions for a person who reviews them: the text now beside the approved one, and approval of
single ones. Reads and writes files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.mcp.approvals import (
    Approval,
    Approvals,
    Judgement,
    Kind,
    Lock,
    LockedServer,
    approved,
    texts_of,
)
from modelplex.mcp.constants import Catalog
from modelplex.mcp.definition_texts import keep_texts, read_texts
from modelplex.mcp.lockfile import launch_of, read_lock, read_seen, write_lock, write_seen


class ReviewError(Exception):
    """A definition that cannot be approved. The text is a sentence."""


class DefinitionReview(msgspec.Struct, frozen=True, kw_only=True):
    """`before` is None where the approved text was not kept on this machine, or nothing was
    approved.
    """

    approval: Approval
    now: str
    before: str | None


class ChosenDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A definition as the person saw it: another hash now means that it has changed meanwhile."""

    kind: Kind
    name: str
    hash: str


def review(judged: Iterable[tuple[Catalog, Judgement]], folder: Path | None) -> list[DefinitionReview]:
    """Also keeps the texts of what is approved, if there is a folder."""
    judged = list(judged)
    if folder is not None:
        keep_approved(judged, folder)
    wanted = {each.approved for _, found in judged for each in found.entries if each.approved}
    kept = read_texts(folder, wanted) if folder is not None else {}
    rows: list[DefinitionReview] = []
    for catalog, judgement in judged:
        texts = texts_of(catalog)
        rows += [
            DefinitionReview(
                approval=each,
                now=texts.get((each.kind, each.name), ""),
                before=kept.get(each.approved or ""),
            )
            for each in judgement.entries
        ]
    return rows


def keep_approved(judged: Iterable[tuple[Catalog, Judgement]], folder: Path) -> None:
    """Keep the texts of what is approved now. Raises OSError."""
    for catalog, judgement in judged:
        texts = texts_of(catalog)
        keep_texts(
            folder,
            {
                each.hash: texts[each.kind, each.name]
                for each in judgement.entries
                if each.state == "approved" and (each.kind, each.name) in texts
            },
        )


def keep_locked(catalogs: Mapping[str, Catalog], lock: Lock, folder: Path) -> None:
    """Keep the texts of what this lock approves. Raises OSError."""
    approvals = Approvals(mode="locked", lock=lock)
    keep_approved([(catalog, approvals.judge(name, catalog)) for name, catalog in catalogs.items()], folder)


def store_approval(
    server: McpServer,
    catalog: Catalog,
    judgement: Judgement,
    chosen: Sequence[ChosenDefinition],
    *,
    path: Path,
    folder: Path | None,
) -> None:
    """Write the approval into the lock file at `path`, or into what was first seen. Raises
    ReviewError, LockError and OSError.
    """
    for each in chosen:
        found = judgement.find(each.kind, each.name)
        if found is None or found.hash != each.hash:
            raise ReviewError(f"the {each.kind} {each.name!r} has changed meanwhile; look at it again.")
    if judgement.mode == "off":
        raise ReviewError('[mcp] pinning is "off": nothing waits for approval.')
    locked = judgement.mode == "locked"
    assert locked or folder is not None
    stored = (read_lock(path) or {}) if locked else read_seen(folder or Path())
    before = stored.get(server.name) or LockedServer(launch=launch_of(server), command=server.command or "")
    stored[server.name] = approved(
        before,
        catalog,
        tools={each.name for each in chosen if each.kind == "tool"},
        prompts={each.name for each in chosen if each.kind == "prompt"},
        instructions=any(each.kind == "instructions" for each in chosen),
    )
    if locked:
        write_lock(path, stored)
    else:
        assert folder is not None
        write_seen(folder, stored)
    if folder is not None:
        texts = texts_of(catalog)
        keep_texts(folder, {each.hash: texts[each.kind, each.name] for each in chosen})
