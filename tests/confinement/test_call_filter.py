"""The gateway's filter of system calls, for both architectures."""

import errno

import pytest

from modelplex.confinement import call_filter
from modelplex.confinement.bpf import ALLOW, ERRNO, KILL
from modelplex.confinement.call_filter import COMMON, MACHINES, CallNumbers
from tests.bpf import verdict

BOTH = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
EPERM = ERRNO | errno.EPERM
UNIX, INET, INET6, PACKET, NETLINK, VSOCK, ALG = 1, 2, 10, 17, 16, 40, 38


@BOTH
def test_programs_namespaces_and_tracing_are_refused(machine: CallNumbers) -> None:
    code = call_filter.at_start(machine)
    for number in (*machine.refused, *COMMON):
        assert verdict(code, number, arch=machine.arch) == EPERM


def test_both_architectures_refuse_the_same_calls() -> None:
    """But for fork, vfork, iopl, ioperm, mknod, chmod, chown, lchown, utime, utimes and futimesat,
    which only x86 has.
    """
    x86, arm = MACHINES["x86_64"], MACHINES["aarch64"]
    assert len(set(x86.refused)) == len(x86.refused)
    assert len(set(arm.refused)) == len(arm.refused)
    assert len(x86.refused) - len(arm.refused) == 11


@BOTH
def test_threads_are_made_and_processes_are_not(machine: CallNumbers) -> None:
    code = call_filter.at_start(machine)
    thread, child = 0x3D0F00, 0x1200011
    assert verdict(code, machine.clone, thread, arch=machine.arch) == ALLOW
    assert verdict(code, machine.clone, child, arch=machine.arch) == EPERM
    assert verdict(code, 435, arch=machine.arch) == ERRNO | errno.ENOSYS


@BOTH
def test_sockets_of_the_gateway_are_made_and_others_are_not(machine: CallNumbers) -> None:
    code = call_filter.at_start(machine)
    for family in (UNIX, INET, INET6, VSOCK):
        assert verdict(code, machine.socket, family, 1 | 0o2004000, arch=machine.arch) == ALLOW
        assert verdict(code, machine.socket, family, 3, arch=machine.arch) == EPERM
        for protocol, action in {0: ALLOW, 6: ALLOW, 17: ALLOW, 262: EPERM}.items():
            assert verdict(code, machine.socket, family, 1, protocol, arch=machine.arch) == action
    assert verdict(code, machine.socket, NETLINK, 3, arch=machine.arch) == ALLOW
    assert verdict(code, machine.socket, NETLINK, 3, 9, arch=machine.arch) == EPERM
    for family in (PACKET, ALG):
        assert verdict(code, machine.socket, family, 1, arch=machine.arch) == EPERM


@BOTH
def test_once_it_serves_it_cannot_listen_or_make_unix_sockets(machine: CallNumbers) -> None:
    code = call_filter.once_serving(machine, unix=False)
    assert verdict(code, machine.listen, 3, 128, arch=machine.arch) == ERRNO | 0
    for family in (UNIX, VSOCK):
        assert verdict(code, machine.socket, family, 1, arch=machine.arch) == EPERM
    for family in (INET, INET6):
        assert verdict(code, machine.socket, family, 1, arch=machine.arch) == ALLOW
    kept = call_filter.once_serving(machine, unix=True)
    assert verdict(kept, machine.socket, UNIX, 1, arch=machine.arch) == ALLOW


@BOTH
def test_nothing_is_sent_that_connects_and_pairs_are_connected(machine: CallNumbers) -> None:
    code = call_filter.at_start(machine)
    for number, before in zip(machine.sending, ((3, 0, 1), (3, 0), (3, 0, 1)), strict=True):
        assert verdict(code, number, *before, 0x4000, arch=machine.arch) == ALLOW
        assert verdict(code, number, *before, 0x2000_4000, arch=machine.arch) == EPERM
    for kind, action in {1: ALLOW, 5: ALLOW, 2: EPERM}.items():
        assert verdict(code, machine.socketpair, UNIX, kind | 0o2004000, arch=machine.arch) == action


@BOTH
def test_limits_are_those_of_the_process_itself(machine: CallNumbers) -> None:
    code = call_filter.at_start(machine)
    assert verdict(code, machine.prlimit, 0, 7, arch=machine.arch) == ALLOW
    assert verdict(code, machine.prlimit, 1, 7, arch=machine.arch) == EPERM


@BOTH
def test_a_terminal_cannot_be_typed_into(machine: CallNumbers) -> None:
    code = call_filter.at_start(machine)
    assert verdict(code, machine.ioctl, 0, 0x5412, arch=machine.arch) == EPERM
    assert verdict(code, machine.ioctl, 0, 0x5413, arch=machine.arch) == ALLOW
    assert verdict(code, 0, arch=machine.arch ^ 1) == KILL


def test_this_machine_has_numbers_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        machine = "riscv64"

    assert call_filter.machine() in MACHINES.values()
    monkeypatch.setattr("os.uname", Other)
    assert call_filter.machine() is None
