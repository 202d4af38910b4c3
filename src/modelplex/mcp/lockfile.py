"""Stores approvals: the lock file, which people review, and the definitions first seen of each
server.

Both files belong to the host: a file that others may write is not trusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.config.settings import Config
from modelplex.mcp.approvals import Approvals, Lock, LockedServer, Mode, mode_of

VERSION: Final = 1
"""The version of both files' formats."""
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a file. A hash and a name take a hundred; a wrong path must not fill the memory."""
PRIVATE_MODE: Final = 0o600
SEEN_FILE: Final = "mcp-seen.json"
"""Below the state folder."""

_HEAD: Final = """\
# What each tool server's definitions were when they were approved. `modelplex mcp lock` writes this file and `modelplex mcp approve` changes it;
# a tool whose definition is not the one here is neither listed nor called. Keep it with your config, and look at what changes.
"""


class LockError(Exception):
    """A file of approvals that cannot be read or trusted. Nothing is approved then."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def lock_path(config: Config) -> Path:
    """The lock file of a config; a relative path starts at the config's folder."""
    beside = Path(config.path).parent if config.path else Path()
    return beside / config.mcp.lock_file


def launch_of(server: McpServer) -> str:
    """SHA-256 of how a server is started or reached by its config. Another launch counts as another
    server.

    A newer version of the same command is the same launch, so that its changes are reported. The
    values of variables and headers are left out.
    """
    parts = [
        server.command,
        [arg.reveal() for arg in server.args],
        sorted(server.env),
        server.cwd,
        server.url.reveal() if server.url else None,
        sorted(server.headers),
    ]
    return "sha256:" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def read_lock(path: Path) -> Lock | None:
    """What the lock file approves; None if there is no file.

    Raises: LockError if it cannot be read or parsed, or if others than its owner (this user, or
    root) may write it.
    """
    content = _content(path)
    if content is None:
        return None
    try:
        tree = tomllib.loads(content.decode())
        if tree.pop("version", None) != VERSION:
            raise LockError(
                f"{path} is not of version {VERSION}: remove it, and `modelplex mcp lock` writes it anew"
            )
        return msgspec.convert(tree, dict[str, dict[str, LockedServer]]).get("servers", {})
    except (ValueError, RecursionError) as error:  # msgspec and tomllib raise ValueErrors
        raise LockError(f"{path} is not a lock file: {error}") from None


def write_lock(path: Path, lock: Lock) -> None:
    """Replace the lock file, readable by everybody since it holds nothing secret.
    Raises OSError.
    """
    replace_file(path, locked_text(lock).encode(), mode=0o644)


def locked_text(lock: Lock) -> str:
    """The text of the lock file: one sorted line per definition, so that a diff shows
    only changes.
    """
    lines = [_HEAD, f"version = {VERSION}"]
    for name in sorted(lock):
        server = lock[name]
        lines += ["", f"[servers.{_key(name)}]"]
        lines += [
            f"{member} = {_string(value)}"
            for member in ("command", "launch", "says", "instructions")
            if (value := getattr(server, member))
        ]
        for member, hashes in (("tools", server.tools), ("prompts", server.prompts)):
            if hashes:
                lines += ["", f"[servers.{_key(name)}.{member}]"]
                lines += [f"{_key(own)} = {_string(hashes[own])}" for own in sorted(hashes)]
    return "\n".join(lines) + "\n"


def read_seen(folder: Path) -> Lock:
    """The definitions first seen of each server. An unreadable file counts as missing.

    Raises: LockError if others than its owner may write it.
    """
    content = _content(folder / SEEN_FILE)
    if content is None:
        return {}
    try:
        return msgspec.json.decode(content, type=_Seen).servers
    except (msgspec.MsgspecError, RecursionError):
        return {}


def write_seen(folder: Path, seen: Lock) -> None:
    """Replace the file of first-seen definitions; makes the folder. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(
        folder / SEEN_FILE, msgspec.json.format(msgspec.json.encode(_Seen(VERSION, seen))), mode=PRIVATE_MODE
    )


def record_seen(folder: Path, seen: Lock) -> None:
    """Add definitions seen for the first time. Existing entries stay, since a person may have
    approved a change; those of another launch are replaced. Other processes may add theirs at the
    same time. Raises OSError, and LockError as `read_seen`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / f"{SEEN_FILE}.lock", "ab", opener=_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = read_seen(folder)
        write_seen(
            folder, {**before, **{name: _added(before.get(name), server) for name, server in seen.items()}}
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _added(before: LockedServer | None, now: LockedServer) -> LockedServer:
    if before is None or before.launch != now.launch:
        return now
    return msgspec.structs.replace(
        before,
        instructions=before.instructions or now.instructions,
        tools={**now.tools, **before.tools},
        prompts={**now.prompts, **before.prompts},
    )


def load_approvals(config: Config, *, state_folder: Path) -> Approvals:
    """The approvals of a config, from its files.

    Raises: LockError if a file cannot be trusted. The caller goes on with
    `Approvals(mode="locked")`, which approves nothing.
    """
    lock = read_lock(lock_path(config)) if config.mcp.pinning != "off" else None
    mode: Mode = mode_of(config.mcp.pinning, locked=lock is not None)
    seen = read_seen(state_folder) if mode == "trust_first" else {}
    return Approvals(mode=mode, lock=lock or {}, seen=seen)


class _Seen(msgspec.Struct, frozen=True):
    version: int = VERSION
    servers: Lock = {}


def _content(path: Path) -> bytes | None:
    try:
        with open(path, "rb", opener=_at_once) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise LockError(f"{path} cannot be read: it is no file")
            if facts.st_mode & stat.S_IWOTH or facts.st_uid not in (0, os.geteuid()):
                raise LockError(
                    f"{path} may be written by others than you, so its approvals are not believed"
                )
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > LARGEST:
        raise LockError(f"{path} has more than {LARGEST} bytes")
    return content


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write atomically: the old or the new file exists, also after a crash."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if mode != PRIVATE_MODE:  # which mkstemp gives; a confined gateway changes no modes
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _key(name: str) -> str:
    return (
        name
        if name and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        else _string(name)
    )


def _string(text: str) -> str:
    """A TOML basic string: JSON's form, with the delete character and invisible
    characters escaped.
    """
    text_ = msgspec.json.encode(text).decode()
    return "".join(
        char
        if char.isprintable()
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
        for char in text_
    )
