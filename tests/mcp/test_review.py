"""A person looks at a changed definition beside the approved one, and approves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelplex.config.mcp_settings import McpServer
from modelplex.mcp.approvals import Approvals, Judgement
from modelplex.mcp.constants import Catalog
from modelplex.mcp.lockfile import launch_of, read_lock, read_seen, write_lock
from modelplex.mcp.review import ChosenDefinition, ReviewError, keep_approved, review, store_approval

SERVER = McpServer(name="git", command="git-tools")


def catalog(description: str, *, instructions: str | None = "Be kind.") -> Catalog:
    tool: dict[str, Any] = {"name": "log", "description": description, "inputSchema": {"type": "object"}}
    prompt = {"name": "sum", "description": "Sum."}
    return Catalog(era="modern", version="1", tools=(tool,), prompts=(prompt,), instructions=instructions)


def judged(approvals: Approvals, found: Catalog) -> tuple[Catalog, Judgement]:
    return found, approvals.judge("git", found, launch=launch_of(SERVER))


def first_seen(folder: Path) -> Approvals:
    """What was seen of the first catalog, which is kept too."""
    trusting = Approvals()
    before = judged(trusting, catalog("Shows the log."))
    keep_approved([before], folder)
    assert before[1].first is not None
    return Approvals(seen={"git": before[1].first})


def chosen(judgement: Judgement, *names: str) -> list[ChosenDefinition]:
    return [
        ChosenDefinition(kind=each.kind, name=each.name, hash=each.hash)
        for each in judgement.entries
        if each.name in names
    ]


def test_a_change_is_shown_beside_what_was_approved(tmp_path: Path) -> None:
    approvals = first_seen(tmp_path)
    rows = review([judged(approvals, catalog("Sends the log away."))], tmp_path)
    (log,) = [row for row in rows if row.approval.name == "log"]
    assert log.approval.state == "changed"
    assert "Sends the log away." in log.now
    assert log.before is not None
    assert "Shows the log." in log.before
    (instructions,) = [row for row in rows if row.approval.kind == "instructions"]
    assert (instructions.now, instructions.approval.state) == ("Be kind.", "approved")


def test_what_this_machine_has_not_kept_is_not_shown(tmp_path: Path) -> None:
    approvals = first_seen(tmp_path / "elsewhere")
    (log, *_) = review([judged(approvals, catalog("x"))], tmp_path / "here")
    assert (log.approval.state, log.before) == ("changed", None)
    (log, *_) = review([judged(approvals, catalog("x"))], None)
    assert log.before is None


def test_an_approval_of_a_change_is_stored_where_it_was_first_seen(tmp_path: Path) -> None:
    found, judgement = judged(first_seen(tmp_path), catalog("New."))
    store_approval(
        SERVER, found, judgement, chosen(judgement, "log"), path=tmp_path / "lock", folder=tmp_path
    )
    assert not (tmp_path / "lock").exists()
    now = Approvals(seen=read_seen(tmp_path))
    (log, *_) = review([judged(now, found)], tmp_path)
    assert (log.approval.state, log.before) == ("approved", log.now)


def test_an_approval_in_a_lock_file_is_stored_there_and_covers_only_what_was_chosen(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write_lock(path, {})
    found, judgement = judged(Approvals(mode="locked"), catalog("New."))
    assert judgement.held_tools == {"log"}
    store_approval(SERVER, found, judgement, chosen(judgement, "log"), path=path, folder=None)
    _, after = judged(Approvals(mode="locked", lock=read_lock(path) or {}), found)
    assert after.held_tools == frozenset()
    assert after.held_prompts == {"sum"}
    assert after.held_instructions


def test_what_has_changed_since_it_was_shown_is_not_approved(tmp_path: Path) -> None:
    approvals = first_seen(tmp_path)
    _, shown = judged(approvals, catalog("One."))
    found, judgement = judged(approvals, catalog("Two."))
    with pytest.raises(ReviewError, match="changed meanwhile"):
        store_approval(
            SERVER, found, judgement, chosen(shown, "log"), path=tmp_path / "lock", folder=tmp_path
        )
    with pytest.raises(ReviewError, match='"off"'):
        store_approval(
            SERVER, found, Approvals(mode="off").judge("git", found), [], path=tmp_path, folder=tmp_path
        )
