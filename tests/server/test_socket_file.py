"""Socket files: what is replaced, what is refused, and who may connect."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from modelplex.server.address import ListenError, Unix
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.listeners import listen
from modelplex.server.socket_file import HIDDEN_LENGTH, hidden_names, not_writable
from tests.server.harness import GET, Run, echo, serving

pytestmark = pytest.mark.usefixtures("short_waits")


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
def test_the_error_for_a_folder_of_another_user_names_both_users_and_the_fix(
    shared_folder: Path, mode: int
) -> None:
    place = shared_folder / "socket"
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


def test_the_error_for_a_read_only_mount_names_the_fix(tmp_path: Path) -> None:
    assert "without :ro" in not_writable(tmp_path, number=errno.EROFS)


@contextlib.contextmanager
def umask(mask: int) -> Generator[None, None, None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def refusal_at(path: Path | str, **settings: Any) -> str:
    with pytest.raises(ListenError) as caught:
        await listen(echo, [Unix(str(path), **settings)], limits=ConnectionLimits())
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_the_socket_has_its_mode_with_any_umask(run: Run, short: Path, mode: int) -> None:
    async def main() -> None:
        with umask(0o077):
            async with serving(echo, Unix(str(short / "s"), mode=mode)):
                assert stat.S_IMODE((short / "s").lstat().st_mode) == mode
                assert sorted(each.name for each in short.iterdir()) == ["s", "s.lock"]
            assert os.umask(0o077) == 0o077
        assert list(short.iterdir()) == []

    run(main())


def test_the_socket_belongs_to_the_named_group(run: Run, short: Path) -> None:
    gid = os.getgroups()[0] if os.getgroups() else os.getgid()

    async def main() -> None:
        async with serving(echo, Unix(str(short / "s"), group=grp.getgrgid(gid).gr_name)):
            assert (short / "s").lstat().st_gid == gid

    run(main())


def test_a_missing_or_forbidden_group_is_a_listen_error(
    run: Run, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(path: str, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    async def main() -> None:
        assert 'no group "nobodys-group"' in await refusal_at(short / "s", group="nobodys-group")
        monkeypatch.setattr(os, "chown", chown)
        assert "cannot be given to the group" in await refusal_at(
            short / "s", group=grp.getgrgid(os.getgid()).gr_name
        )
        assert list(short.iterdir()) == []

    run(main())


def test_a_dead_socket_is_replaced(run: Run, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short / "s"))
        before = (short / "s").lstat().st_ino

        async def main() -> None:
            async with serving(echo, Unix(str(short / "s"))) as served:
                assert (short / "s").lstat().st_ino != before
                client = await served.client()
                client.send(GET)
                assert (await client.response())[0] == 200

        run(main())


def test_a_live_socket_is_left_alone_and_the_error_names_its_process(run: Run, short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(short / "s"))
        live.listen()
        before = (short / "s").lstat()

        async def main() -> None:
            sentence = await refusal_at(short / "s")
            assert str(short / "s") in sentence
            assert f"process {os.getpid()}" in sentence

        run(main())
        after = (short / "s").lstat()
        assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        assert [each.name for each in short.iterdir()] == ["s"]


def test_a_second_gateway_on_the_same_path_is_refused(run: Run, short: Path) -> None:
    async def main() -> None:
        async with serving(echo, Unix(str(short / "s"))) as served:
            assert f"process {os.getpid()}" in await refusal_at(short / "s")
            client = await served.client()
            client.send(GET)
            assert (await client.response())[0] == 200

    run(main())


def test_a_socket_with_a_full_backlog_is_live(run: Run, short: Path) -> None:
    with contextlib.ExitStack() as open_sockets:
        live = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        live.bind(str(short / "s"))
        live.listen(0)
        for _ in range(2):
            waiting = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(short / "s"))

        async def main() -> None:
            assert "is in use" in await refusal_at(short / "s")

        run(main())


@pytest.mark.parametrize("kind", ["regular file", "fifo", "directory", "symbolic link"])
def test_a_file_that_is_no_socket_is_left_alone(run: Run, short: Path, kind: str) -> None:
    path = short / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        match kind:
            case "regular file":
                path.write_text("keep me")
            case "fifo":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
            case _:
                # To a dead socket: following it would find something to replace.
                dead.bind(str(short / "other"))
                path.symlink_to(short / "other")
        before, names = path.lstat(), sorted(short.iterdir())

        async def main() -> None:
            assert f"a {kind}, not a socket" in await refusal_at(path)

        run(main())
        after = path.lstat()
        assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        assert sorted(short.iterdir()) == names


def test_a_path_above_the_length_limit_is_refused_and_one_at_the_limit_works(run: Run, short: Path) -> None:
    longest = str(short / ("x" * (107 - len(str(short)) - 1)))

    async def main() -> None:
        async with serving(echo, Unix(longest)):
            assert Path(longest).is_socket()
        sentence = await refusal_at(longest + "é")
        assert "109 bytes" in sentence
        assert "107" in sentence
        assert list(short.iterdir()) == []

    run(main())


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("", "needs a path"), ("\0abstract", "abstract names"), ("/no/such/dir/s", "/no/such/dir")],
)
def test_an_impossible_path_is_a_listen_error(run: Run, path: str, sentence: str) -> None:
    async def main() -> None:
        assert sentence in await refusal_at(path)

    run(main())


def test_hidden_names_are_long_and_random() -> None:
    names = hidden_names("/run/b")
    assert {len(Path(each).name) for each in names} == {HIDDEN_LENGTH}
    assert all(each.startswith("/run/.") for each in names)
    assert {len(each) for each in hidden_names("/" + "d" * 104 + "/s")} == {107}


def test_a_path_that_another_process_has_locked_is_refused(run: Run, short: Path) -> None:
    with (short / "s.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        async def main() -> None:
            assert "starting or stopping" in await refusal_at(short / "s")

        run(main())
    assert [each.name for each in short.iterdir()] == ["s.lock"]


def test_a_lock_file_left_by_a_crash_is_taken_over(run: Run, short: Path) -> None:
    (short / "s.lock").touch()

    async def main() -> None:
        async with serving(echo, Unix(str(short / "s"))):
            assert (short / "s").is_socket()

    run(main())
    assert list(short.iterdir()) == []


def test_a_symlink_in_place_of_the_lock_file_is_not_followed(run: Run, short: Path) -> None:
    (short / "s.lock").symlink_to(short / "elsewhere")

    async def main() -> None:
        assert "s.lock" in await refusal_at(short / "s")

    run(main())
    assert not (short / "elsewhere").exists()


def test_a_file_that_replaced_the_socket_is_not_removed(run: Run, short: Path) -> None:
    path = short / "s"

    async def main() -> None:
        async with serving(echo, Unix(str(path))):
            path.rename(short / "moved")
            path.write_text("somebody else's")

    run(main())
    assert path.read_text() == "somebody else's"
