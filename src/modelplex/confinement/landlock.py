"""Rules for files, TCP ports and signals, by landlock(7), as far as the kernel has them.

    ABI 1   files                                  Linux 5.13
    ABI 2   moving files between folders           5.19
    ABI 3   truncating                             6.2
    ABI 4   TCP ports                              6.7
    ABI 5   ioctl of devices                       6.10
    ABI 6   abstract Unix sockets, signals         6.12

Files that are open stay open. `stat` of any path stays possible, as does connecting to a Unix
socket in a folder (see call_filter.py). A process with such rules cannot trace one without them.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

import msgspec

from modelplex.confinement import system_calls

EXECUTE, WRITE, READ, LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_FOLDER, REMOVE_FILE, MAKE_FOLDER, MAKE_FILE, MAKE_SOCKET = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
OF_FILES: Final = EXECUTE | WRITE | READ | TRUNCATE | IOCTL_DEVICE
"""Rights that a rule for a file, not a folder, may have."""
SINCE: Final = ((1, (1 << 13) - 1), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEVICE))
"""The ABI that brought them, and rights."""
READING: Final = READ | LIST
WRITING: Final = (
    READING | WRITE | TRUNCATE | REFER | MAKE_FILE | MAKE_FOLDER | MAKE_SOCKET | REMOVE_FILE | REMOVE_FOLDER
)
BIND, CONNECT = 1, 2
PORTS_SINCE: Final = 4
ABSTRACT_SOCKETS, SIGNALS = 1, 2
SCOPES_SINCE: Final = 6


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway may use. Paths that do not exist are left out; a folder means all below it.

    read      files and folders
    write     files and folders, to read as well
    devices   files that are written to as well
    connect   TCP ports of other hosts
    bind      TCP ports of this host; 0 is any free one
    shared    folders that are written to, and hold much else: while there are any, all files are
              open
    """

    read: frozenset[str]
    write: frozenset[str]
    devices: frozenset[str] = frozenset()
    connect: frozenset[int]
    bind: frozenset[int]
    shared: frozenset[str] = frozenset()


def beyond(rights: Rights, more: Rights) -> list[str]:
    """What `more` has that `rights` has not, for the log."""
    found = [f"TCP port {port}" for port in sorted(more.connect - rights.connect)]
    found += sorted(more.write - rights.write)
    covered = [f"{path}/" for path in rights.read | rights.write]
    found += [
        path
        for path in sorted(more.read - rights.read - rights.write)
        if not any(path.startswith(folder) for folder in covered)
    ]
    return found


def restrict(rights: Rights, *, version: int | None = None) -> int:
    """Allow this thread, and those it starts later, these rights only, permanently. Returns the ABI
    that was used, 0 where there is none. Raises OSError.
    """
    version = system_calls.landlock_version() if version is None else version
    if version <= 0:
        return 0
    known = 0
    for since, bits in SINCE:
        known |= bits if version >= since else 0
    if rights.shared:
        known = 0
        if version < PORTS_SINCE:
            return version
    ruleset = system_calls.new_ruleset(
        files=known,
        ports=BIND | CONNECT if version >= PORTS_SINCE else 0,
        scopes=ABSTRACT_SOCKETS | SIGNALS if version >= SCOPES_SINCE else 0,
    )
    try:
        if known:
            _allow_paths(ruleset, rights.read, READING & known)
            _allow_paths(ruleset, rights.devices, (READ | WRITE) & known)
            _allow_paths(ruleset, rights.write, WRITING & known)
        if version >= PORTS_SINCE:
            for port in rights.connect | rights.bind:
                allowed = (CONNECT if port in rights.connect else 0) | (BIND if port in rights.bind else 0)
                system_calls.allow_port(ruleset, port, allowed)
        system_calls.restrict_thread(ruleset)
    finally:
        os.close(ruleset)
    return version


def _allow_paths(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in sorted(paths):
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
            system_calls.allow_path(ruleset, opened, rights if is_folder else rights & OF_FILES)
        finally:
            os.close(opened)
