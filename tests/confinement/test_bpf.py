"""Instructions of filters, run by an interpreter."""

import errno

from modelplex.confinement.bpf import (
    ALLOW,
    ERRNO,
    KILL,
    argument,
    encode,
    if_equal,
    prologue,
    refuse,
    return_,
)
from tests.bpf import verdict

ARCH = 0xC000_003E


def test_another_architecture_is_killed_and_x32_is_missing() -> None:
    code = encode([*prologue(ARCH, has_x32=True), return_(ALLOW)])
    assert verdict(code, 1, arch=ARCH) == ALLOW
    assert verdict(code, 1, arch=ARCH + 1) == KILL
    assert verdict(code, 1 | 0x4000_0000, arch=ARCH) == ERRNO | errno.ENOSYS


def test_a_branch_is_taken_for_its_value_alone() -> None:
    branch = if_equal(7, [argument(1), *if_equal(3, [refuse(errno.EPERM)]), return_(ALLOW)])
    code = encode([*prologue(ARCH, has_x32=False), *branch, refuse(errno.EACCES)])
    assert verdict(code, 7, 0, 3, arch=ARCH) == ERRNO | errno.EPERM
    assert verdict(code, 7, 3, 0, arch=ARCH) == ALLOW
    assert verdict(code, 8, 0, 3, arch=ARCH) == ERRNO | errno.EACCES
