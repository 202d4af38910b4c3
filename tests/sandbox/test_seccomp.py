"""The seccomp filter, run by a BPF interpreter, for every supported architecture."""

from __future__ import annotations

import errno

import pytest

from modelplex.confinement.bpf import ALLOW, ERRNO, KILL, NOTIFY
from modelplex.sandbox.seccomp import MACHINES, Machine, program
from tests.bpf import verdict as run

X86, ARM = MACHINES["x86_64"], MACHINES["aarch64"]
BOTH = pytest.mark.parametrize("machine", [X86, ARM], ids=["x86_64", "aarch64"])
READ, OPENAT_ARM = 0, 56


def verdict(
    machine: Machine,
    number: int,
    *arguments: int,
    arch: int | None = None,
    netlink: bool = False,
    users: bool = True,
) -> int:
    """The filter's action for a system call."""
    code = program(machine, netlink=netlink, users=users)
    return run(code, number, *arguments, arch=machine.arch if arch is None else arch)


def refused(code: int) -> int:
    return ERRNO | code


@BOTH
def test_inet_streams_and_datagrams_are_allowed(machine: Machine) -> None:
    for family in (2, 10):
        for kind in (1, 2, 1 | 0o2000000 | 0o4000):
            assert verdict(machine, machine.socket, family, kind, 0) == ALLOW
        for kind in (3, 3 | 0o2000000, 4, 5, 10):
            assert verdict(machine, machine.socket, family, kind, 0) == refused(errno.EPERM)


@BOTH
def test_unix_sockets_are_allowed_except_datagrams(machine: Machine) -> None:
    for call in (machine.socket, machine.socketpair):
        assert verdict(machine, call, 1, 1) == ALLOW
        assert verdict(machine, call, 1, 5 | 0o2000000) == ALLOW
        for kind in (2, 3, 2 | 0o2000000):
            expected = (
                NOTIFY if call == machine.socketpair and kind & 15 == 2 else refused(errno.EPROTONOSUPPORT)
            )
            assert verdict(machine, call, 1, kind) == expected


@BOTH
def test_other_families_fail(machine: Machine) -> None:
    allowed = {1, 2, 10, 16}
    for family in set(range(64)) - allowed:
        assert verdict(machine, machine.socket, family, 1) == refused(errno.EAFNOSUPPORT)
    for family in set(range(64)) - {1}:
        assert verdict(machine, machine.socketpair, family, 1) == refused(errno.EAFNOSUPPORT)


@BOTH
def test_high_bits_of_a_family_are_ignored_as_by_the_kernel(machine: Machine) -> None:
    assert verdict(machine, machine.socket, (1 << 32) | 40, 1) == refused(errno.EAFNOSUPPORT)
    assert verdict(machine, machine.socket, (1 << 32) | 2, 3) == refused(errno.EPERM)


@BOTH
def test_netlink_for_routes_is_the_supervisors_or_by_option_whole(machine: Machine) -> None:
    assert verdict(machine, machine.socket, 16, 3, 0) == NOTIFY
    assert verdict(machine, machine.socket, 16, 3, 0, netlink=True) == ALLOW
    for protocol in range(1, 24):
        for netlink in (True, False):
            found = verdict(machine, machine.socket, 16, 3, protocol, netlink=netlink)
            assert found == refused(errno.EPROTONOSUPPORT)


@BOTH
def test_connect_and_listen_go_to_the_supervisor(machine: Machine) -> None:
    assert verdict(machine, machine.connect, 3, 0, 16) == NOTIFY
    assert verdict(machine, machine.listen, 3, 16) == NOTIFY


@BOTH
def test_changes_of_owner_do_nothing_for_root_alone(machine: Machine) -> None:
    for number in machine.owners:
        assert verdict(machine, number, users=False) == refused(0)
        assert verdict(machine, number) == ALLOW


@BOTH
def test_io_uring_key_rings_and_kernel_interfaces_are_missing(machine: Machine) -> None:
    assert len(set(machine.missing)) == 11
    for number in machine.missing:
        assert verdict(machine, number) == refused(errno.ENOSYS)


@BOTH
def test_only_root_cannot_make_user_namespaces(machine: Machine) -> None:
    new_user, thread = 0x1000_0000, 0x3D0F00
    for call in (machine.clone, machine.unshare):
        for flags in (new_user, new_user | 0x2000_0000 | 17, (1 << 32) | new_user):
            assert verdict(machine, call, flags, users=False) == refused(errno.EPERM)
            assert verdict(machine, call, flags) == ALLOW
        for flags in (17, thread, 0x2000_0000):
            assert verdict(machine, call, flags, users=False) == ALLOW
    assert verdict(machine, 435, 1, users=False) == refused(errno.ENOSYS)
    assert verdict(machine, 435, 1) == ALLOW


@BOTH
def test_terminal_injection_fails(machine: Machine) -> None:
    for request in (0x5412, 0x541C, (1 << 32) | 0x5412):
        assert verdict(machine, machine.ioctl, 0, request) == refused(errno.EPERM)
    assert verdict(machine, machine.ioctl, 0, 0x5401) == ALLOW


@BOTH
def test_calls_of_another_architecture_kill_the_process(machine: Machine) -> None:
    for arch in (0x4000_0003, 0x4000_0028, 0xC000_003E, 0xC000_00B7):
        if arch != machine.arch:
            assert verdict(machine, 1, arch=arch) == KILL


def test_x32_calls_fail() -> None:
    for number in (0x4000_0000 | 41, 0x4000_0000, 0xFFFF_FFFF):
        assert verdict(X86, number, 40, 1) == refused(errno.ENOSYS)


@BOTH
def test_other_calls_are_allowed(machine: Machine) -> None:
    for number in (READ, OPENAT_ARM, 220):
        assert verdict(machine, number, 1, 2, 3) == ALLOW


@BOTH
def test_signals_to_the_own_group_are_sent_by_the_supervisor(machine: Machine) -> None:
    assert verdict(machine, machine.kill, 0, 9) == NOTIFY
    assert verdict(machine, machine.kill, 1 << 32, 9) == NOTIFY
    for pid in (1, 77, 0xFFFF_FFFF, 0xFFFF_FF00):
        assert verdict(machine, machine.kill, pid, 9) == ALLOW


@BOTH
def test_no_call_gives_a_file_the_setuid_bit(machine: Machine) -> None:
    def at(index: int, *values: int) -> list[int]:
        return [*[0] * index, *values]

    for number, index in machine.modes.items():
        assert verdict(machine, number, *at(index, 0o4755)) == refused(errno.EPERM)
        assert verdict(machine, number, *at(index, 0o104755)) == refused(errno.EPERM)
        for mode in (0o755, 0o2775, 0o1777):
            assert verdict(machine, number, *at(index, mode)) == ALLOW
    for number, index in machine.opens.items():
        for flags in (0o101, 0o20200001):
            assert verdict(machine, number, *at(index, flags, 0o4755)) == refused(errno.EPERM)
            assert verdict(machine, number, *at(index, flags, 0o644)) == ALLOW
        # Without a file to make the mode has no meaning, and may be anything.
        assert verdict(machine, number, *at(index, 0, 0o4755)) == ALLOW
    assert verdict(machine, 437) == refused(errno.ENOSYS)
