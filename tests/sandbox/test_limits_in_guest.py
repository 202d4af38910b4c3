"""Limits by control groups, in a virtual machine: the one that runs the tests may have none."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import ROOT
from tests.sandbox.sandboxes import PROGRAMS

QEMU = ROOT / "examples" / "qemu"
INIT = """#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
export PYTHONHOME=/usr PYTHONPATH=/source LD_LIBRARY_PATH=/libraries HOME=/tmp PATH=/usr/bin
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
python3 /limits.py
busybox reboot -f
"""
BOOT_S = 400.0


def _builder() -> Any:
    spec = importlib.util.spec_from_file_location("qemu_build", QEMU / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.vm
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64")
@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox")
def test_control_groups_hold_the_limits_of_root_and_of_a_user(tmp_path: Path) -> None:
    kernel = next((ROOT / ".cache" / "qemu").glob("kernel"), None)
    if kernel is None:
        pytest.skip("the test of examples/qemu fetches the kernel")
    root, build = tmp_path / "root", _builder()
    root.mkdir()
    build.fill(
        root,
        kernel=kernel,
        busybox=Path(shutil.which("busybox") or ""),
        agent=PROGRAMS / "attempts.py",
        model="demo",
    )
    shutil.copytree(ROOT / "src", root / "source", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROGRAMS / "limits_in_guest.py", root / "limits.py")
    (root / "init").write_text(INIT)
    with (tmp_path / "initramfs").open("wb") as file:
        build.write(file, root)
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    words = "-M q35,accel=tcg -cpu max -m 1024 -nodefaults -no-user-config -no-reboot -display none -nic none -serial stdio"
    done = subprocess.run(
        [
            *(
                "qemu-system-x86_64",
                *words.split(),
                "-kernel",
                str(image),
                "-initrd",
                str(tmp_path / "initramfs"),
            ),
            *("-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOOT_S,
        check=True,
    )
    found = [json.loads(row) for row in re.findall(r"LIMITS (\{.*\})", done.stdout)]
    assert [each["parent"] for each in found] == ["/sys/fs/cgroup", "/sys/fs/cgroup/user"], done.stdout
    for each in found:
        assert each["line"] == "memory 64M (cgroup), CPUs 0.2 (cgroup), processes 20 (cgroup)"
        assert (each["allocating"], each["spinning"], each["throttled"], each["left"]) == (-9, 0, True, False)
        assert 10 <= each["started"] < 20
        assert each["events"] == [
            "the memory limit was reached, and the kernel ended 1 process",
            "the limit of processes was reached, and 1 start failed",
        ]
