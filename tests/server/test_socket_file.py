"""What is said where no socket can be made in a folder."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.server.socket_file import not_writable

NOBODY = 65534
CLAIM = """
import os, sys
from modelplex.server.address import ListenError, Unix
from modelplex.server.socket_file import claim
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    claim(Unix(sys.argv[1]))
except ListenError as fault:
    print(fault.sentence)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="for root to try: another user")
@pytest.mark.parametrize("mode", [0o755, 0o500])
def test_a_folder_of_somebody_else_is_named_with_both_users_and_the_remedy(tmp_path: Path, mode: int) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest-", "popen-")) or folder == tmp_path:
            folder.chmod(folder.stat().st_mode | 0o055)
    place = tmp_path / "socket"
    place.mkdir()
    place.chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", CLAIM, str(place / "m.sock")],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert (
        f"the user {NOBODY} may not write into {place}, which belongs to the user 0 (mode {mode:04o})"
        in done.stdout
    )
    assert "docker run --user 0:" in done.stdout


def test_a_folder_that_is_mounted_read_only_is_named(tmp_path: Path) -> None:
    assert "without :ro" in not_writable(tmp_path, number=errno.EROFS)
