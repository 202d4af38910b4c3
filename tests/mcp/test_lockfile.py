"""The files of approvals: read back as they were written, whole after a crash, and believed only
where they are the host's own.
"""

import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.config import Config, McpConfig, McpServer, Secret
from modelplex.mcp import lockfile
from modelplex.mcp.approvals import Lock, LockedServer
from modelplex.mcp.lockfile import (
    LockError,
    launch_of,
    load_approvals,
    lock_path,
    locked_text,
    read_lock,
    read_seen,
    record_seen,
    write_lock,
    write_seen,
)

HASH = "sha256:" + "0" * 64
LOCK: Lock = {
    "git": LockedServer(
        launch=HASH,
        command="mcp-server-git",
        says="git 1.2",
        instructions=HASH,
        tools={"status": HASH, "a.b": HASH, "__x": HASH},
        prompts={"review": HASH},
    ),
    "fs": LockedServer(launch=HASH, tools={"read": HASH}),
}


def test_the_lock_file_is_a_line_for_each_definition_in_order() -> None:
    text = locked_text(LOCK)
    body = text[text.index("version") :]
    assert body == (
        "version = 1\n\n"
        f'[servers.fs]\nlaunch = "{HASH}"\n\n[servers.fs.tools]\nread = "{HASH}"\n\n'
        f'[servers.git]\ncommand = "mcp-server-git"\nlaunch = "{HASH}"\nsays = "git 1.2"\ninstructions = "{HASH}"\n\n'
        f'[servers.git.tools]\n__x = "{HASH}"\n"a.b" = "{HASH}"\nstatus = "{HASH}"\n\n'
        f'[servers.git.prompts]\nreview = "{HASH}"\n'
    )


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(names, names, max_size=5), names, st.sampled_from(["git", "a-b", "0"]))
def test_any_tool_name_is_read_back(tools: dict[str, str], said: str, name: str) -> None:
    lock = {name: LockedServer(says=said, tools=tools, prompts=tools)}
    text = locked_text(lock)
    assert all(char.isprintable() or char == "\n" for char in text)
    tree = tomllib.loads(text)
    assert msgspec.convert(tree["servers"], Lock) == lock


def test_a_lock_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "modelplex.mcp.lock"
    assert read_lock(path) is None
    write_lock(path, LOCK)
    assert read_lock(path) == LOCK
    assert path.stat().st_mode & 0o777 == 0o644
    write_lock(path, {})
    assert read_lock(path) == {}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_first_seen_definitions_are_read_back_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "modelplex"
    assert read_seen(folder) == {}
    write_seen(folder, LOCK)
    assert read_seen(folder) == LOCK
    assert (folder / "mcp-seen.json").stat().st_mode & 0o777 == 0o600
    (folder / "mcp-seen.json").write_text("{broken")
    assert read_seen(folder) == {}


def test_an_approval_made_meanwhile_is_kept(tmp_path: Path) -> None:
    first = LockedServer(launch="a", tools={"read": "old"})
    record_seen(tmp_path, {"fs": first})
    write_seen(tmp_path, {"fs": LockedServer(launch="a", tools={"read": "approved"})})
    record_seen(
        tmp_path, {"fs": LockedServer(launch="a", tools={"read": "old", "write": "new"}), "git": first}
    )
    assert read_seen(tmp_path) == {
        "fs": LockedServer(launch="a", tools={"read": "approved", "write": "new"}),
        "git": first,
    }
    other = LockedServer(launch="b", tools={"read": "other"})
    record_seen(tmp_path, {"fs": other})
    assert read_seen(tmp_path)["fs"] == other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not toml", "is not a lock file"),
        ("version = 2", "is not of version 1"),
        ("", "is not of version 1"),
        ("version = 1\n[servers.git]\ntools = 1", "is not a lock file"),
        ("version = 1\nservers = 1", "is not a lock file"),
        ("version = 1\nother = 1", "is not a lock file"),
        ("version = 1\na = " + "[" * 100_000, "is not a lock file"),
    ],
)
def test_an_invalid_lock_file_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "lock"
    path.write_text(text)
    with pytest.raises(LockError, match=expected):
        read_lock(path)


def test_a_lock_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write_lock(path, LOCK)
    path.chmod(0o666)
    with pytest.raises(LockError, match="written by others"):
        read_lock(path)
    path.chmod(0o664)
    assert read_lock(path) == LOCK


def test_a_lock_file_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    write_lock(path, LOCK)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    if path.stat().st_uid == 0:
        assert read_lock(path) == LOCK  # root's own is everybody's to believe
    else:
        with pytest.raises(LockError, match="written by others"):
            read_lock(path)


def test_a_folder_and_a_huge_file_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LockError, match="cannot be read: is a directory"):
        read_lock(tmp_path)
    monkeypatch.setattr(lockfile, "LARGEST", 10)
    write_lock(tmp_path / "lock", LOCK)
    with pytest.raises(LockError, match="more than 10 bytes"):
        read_lock(tmp_path / "lock")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    write_lock(path, LOCK)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_lock(path, {})
    monkeypatch.undo()
    assert read_lock(path) == LOCK
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def config(tmp_path: Path, **mcp: object) -> Config:
    return Config(mcp=McpConfig(**mcp), path=str(tmp_path / "config.toml"))  # type: ignore[arg-type]


def test_the_lock_file_is_in_the_folder_of_the_config(tmp_path: Path) -> None:
    assert lock_path(config(tmp_path)) == tmp_path / "modelplex.mcp.lock"
    assert lock_path(config(tmp_path, lock_file="/etc/a.lock")) == Path("/etc/a.lock")
    assert lock_path(Config()) == Path("modelplex.mcp.lock")


def test_pins_are_as_strict_as_the_files_say(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert load_approvals(config(tmp_path), state_folder=state).mode == "trust_first"
    write_seen(state, LOCK)
    assert load_approvals(config(tmp_path), state_folder=state).seen == LOCK
    write_lock(tmp_path / "modelplex.mcp.lock", LOCK)
    strict = load_approvals(config(tmp_path), state_folder=state)
    assert (strict.mode, strict.lock) == ("locked", LOCK)
    (tmp_path / "modelplex.mcp.lock").write_text("broken")
    with pytest.raises(LockError):
        load_approvals(config(tmp_path), state_folder=state)
    assert load_approvals(config(tmp_path, pinning="off"), state_folder=state).mode == "off"


def test_a_launch_hash_does_not_depend_on_secrets() -> None:
    server = McpServer(name="git", command="g", args=(Secret("--repo"),), env={"TOKEN": Secret("a")})
    assert launch_of(server) == launch_of(
        msgspec.structs.replace(server, env={"TOKEN": Secret("b")}, timeout=1.0)
    )
    others: list[dict[str, Any]] = [{"command": "h"}, {"args": ()}, {"env": {}}, {"cwd": "/"}]
    hashes = {launch_of(server), *(launch_of(msgspec.structs.replace(server, **other)) for other in others)}
    assert len(hashes) == 5


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def record(number: int) -> None:
        record_seen(tmp_path, {f"s{number}": LockedServer(launch=HASH)})

    with ThreadPoolExecutor(8) as pool:
        # Each call opens the lock anew, as each process does.
        list(pool.map(record, range(40)))
    assert set(read_seen(tmp_path)) == {f"s{n}" for n in range(40)}
