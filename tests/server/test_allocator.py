"""What is freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, threading
from modelplex.server.process_setup import return_large_blocks

MIB = 2**20

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if not return_large_blocks():
    print("none")
    sys.exit()
one = b"x" * (30 * MIB)  # by itself the library maps nothing smaller from here on
del one
before = resident()
large, small = [], []
def take():
    for _ in range(20):
        large.append(b"x" * (2 * MIB))
        small.append(b"x" * 50_000)
threads = [threading.Thread(target=take) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
taken = resident() - before
large.clear()
print(taken // MIB, (resident() - before) // MIB)
"""


def test_large_blocks_that_were_freed_are_not_kept() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, timeout=60)
    if done.stdout == b"none\n":
        pytest.skip("this C library has no mallopt")
    taken, kept = map(int, done.stdout.split())
    assert taken >= 80
    assert kept < 10
