"""`modelplex run --check`: every way out is closed, and the gateway reachable."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from modelplex.sandbox.check import CheckFailed, refused
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person


def test_the_check_passes_inside(who: Person) -> None:
    done = who.run("--check")
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    assert "AF_VSOCK: Address family not supported" in done.stdout
    assert done.stdout.count(": reachable\n") == 2


def test_the_check_fails_outside(who: Person) -> None:
    code = "import sys; from modelplex.sandbox.check import main; sys.exit(main())"
    done = subprocess.run(
        [*who.words, sys.executable, "-c", code],
        cwd=who.folder,
        env=who.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED" in done.stdout


def test_an_attempt_must_fail_with_the_expected_error() -> None:
    def fail() -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    assert refused(fail, errno.EPERM, errno.EACCES) == "Operation not permitted"
    assert refused(fail) == "Operation not permitted"
    with pytest.raises(CheckFailed, match="another error"):
        refused(fail, errno.EACCES)
    with pytest.raises(CheckFailed, match="it works"):
        refused(lambda: None)
