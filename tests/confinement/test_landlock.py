"""Rights of files, and what older kernels do not know. test_confine.py has what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelplex.confinement import landlock, system_calls
from modelplex.confinement.landlock import Rights, restrict

NOTHING = Rights(read=frozenset(), write=frozenset(), connect=frozenset({443}), bind=frozenset({443, 8080}))


class Kernel:
    """Records what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handled: dict[str, int] = {}
        self.paths: list[tuple[str, int]] = []
        self.ports: dict[int, int] = {}
        self.restricted = 0
        for name in ("new_ruleset", "allow_path", "allow_port", "restrict_thread"):
            monkeypatch.setattr(system_calls, name, getattr(self, name))

    def new_ruleset(self, **handled: int) -> int:
        self.handled = handled
        return os.open(os.devnull, os.O_RDONLY)

    def allow_path(self, ruleset: int, descriptor: int, rights: int) -> None:
        del ruleset
        self.paths.append((os.readlink(f"/proc/self/fd/{descriptor}"), rights))  # noqa: PTH115

    def allow_port(self, ruleset: int, port: int, rights: int) -> None:
        del ruleset
        self.ports[port] = rights

    def restrict_thread(self, ruleset: int) -> None:
        del ruleset
        self.restricted += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.mark.parametrize(
    ("version", "newest", "ports", "scopes"),
    [
        (1, landlock.MAKE_SOCKET, 0, 0),
        (2, landlock.REFER, 0, 0),
        (3, landlock.TRUNCATE, 0, 0),
        (4, landlock.TRUNCATE, 3, 0),
        (5, landlock.IOCTL_DEVICE, 3, 0),
        (7, landlock.IOCTL_DEVICE, 3, 3),
    ],
)
def test_a_kernel_is_asked_for_what_it_knows(
    kernel: Kernel, version: int, newest: int, ports: int, scopes: int
) -> None:
    assert restrict(NOTHING, version=version) == version
    files = kernel.handled["files"]
    assert files & newest
    assert files < newest * 2 or version == 1
    assert (kernel.handled["ports"], kernel.handled["scopes"]) == (ports, scopes)
    assert kernel.ports == ({443: 3, 8080: 1} if ports else {})
    assert kernel.restricted == 1


def test_a_kernel_without_landlock_is_asked_for_nothing(kernel: Kernel) -> None:
    assert restrict(NOTHING, version=0) == 0
    assert kernel.restricted == 0


def test_where_a_home_is_written_to_files_are_open_and_ports_are_not(kernel: Kernel) -> None:
    rights = Rights(
        read=frozenset({"/etc"}),
        write=frozenset(),
        connect=frozenset({443}),
        bind=frozenset(),
        shared=frozenset({"/home/a"}),
    )
    assert restrict(rights, version=7) == 7
    assert kernel.handled == {"files": 0, "ports": 3, "scopes": 3}
    assert (kernel.paths, kernel.ports) == ([], {443: 2})


def test_what_another_config_needs_beyond_is_named() -> None:
    old = Rights(read=frozenset({"/a"}), write=frozenset({"/w"}), connect=frozenset({80}), bind=frozenset())
    new = Rights(
        read=frozenset({"/a", "/a/below", "/w/key", "/ab", "/b"}),
        write=frozenset({"/w", "/x"}),
        connect=frozenset({80, 9, 8000}),
        bind=frozenset({1}),
    )
    assert landlock.beyond(old, new) == ["TCP port 9", "TCP port 8000", "/x", "/ab", "/b"]
    assert landlock.beyond(old, old) == []


def test_a_rule_of_a_file_has_no_rights_of_folders(kernel: Kernel, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    rights = Rights(
        read=frozenset({str(file), str(tmp_path / "missing")}),
        write=frozenset({str(tmp_path)}),
        connect=frozenset(),
        bind=frozenset(),
    )
    restrict(rights, version=7)
    assert kernel.paths == [(str(file), landlock.READ), (str(tmp_path), landlock.WRITING)]
