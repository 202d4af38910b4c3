"""Faults of the calls themselves; test_confine.py has their effects."""

from __future__ import annotations

import errno
import os

import pytest

from modelplex.confinement import system_calls


def test_a_fault_has_its_number_and_the_name_of_the_call() -> None:
    with pytest.raises(OSError, match="landlock_create_ruleset") as caught:
        system_calls.new_ruleset(files=1 << 60, ports=0, scopes=0)
    assert caught.value.errno in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def test_a_machine_without_numbers_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        machine = "riscv64"

    monkeypatch.setattr("os.uname", Other)
    assert not system_calls.can_filter()


def test_a_kernel_without_landlock_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_calls, "CREATE_RULESET", 1 << 30)  # ENOSYS
    assert system_calls.landlock_version() == 0
    assert system_calls.call("getpid", {"x86_64": 39, "aarch64": 172}[os.uname().machine]) == os.getpid()
