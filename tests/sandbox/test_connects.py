"""The supervisor that makes the connections of a sandbox."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.sandbox.connects import MAX_SOCKETS, NOTIFICATION, RESPONSE, CallSupervisor, OwnSockets
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person, allowed


def test_an_undumpable_program_connects_to_its_own_sockets(who: Person) -> None:
    """As agents that hold keys do, and another gateway."""
    code = (
        "import ctypes, socket\n"
        "server = socket.socket(socket.AF_UNIX); server.bind('/tmp/s'); server.listen()\n"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "socket.socket(socket.AF_UNIX).connect('/tmp/s'); print('reached')"
    )
    assert who.python(code).stdout == "reached\n"


CONNECT = """
import ctypes, errno, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)

def connect(number, address, length=None):
    result = libc.connect(number, address, len(address) if length is None else length)
    return "connected" if result == 0 else errno.errorcode[ctypes.get_errno()]

def unix(path):
    return struct.pack("=H", socket.AF_UNIX) + path + b"\\0"

def client():
    return socket.socket(socket.AF_UNIX)

for path in ("/tmp/own", "shared"):
    server = client(); server.bind(path); server.listen(); globals()[path.strip("/").replace("/", "_")] = server
abstract = client(); abstract.bind("\\0name"); abstract.listen()
open("/tmp/file", "w").close()
here = os.getcwd(); os.chdir("/tmp"); relative = connect(client().detach(), unix(b"own")); os.chdir(here)
print("own", connect(client().detach(), unix(b"/tmp/own")))
print("relative", relative)
print("through proc", connect(client().detach(), unix(b"/proc/self/root/tmp/own")))
print("shared", connect(client().detach(), unix(b"shared")))
print("abstract", connect(client().detach(), unix(b"\\0name")[:-1]))
print("a file", connect(client().detach(), unix(b"/tmp/file")))
print("missing", connect(client().detach(), unix(b"/tmp/none")))
print("other family", connect(client().detach(), struct.pack("=H", socket.AF_INET) + b"/tmp/own\\0"))
print("no socket", connect(0, unix(b"/tmp/own")))
print("no descriptor", connect(99, unix(b"/tmp/own")))
print("too long", connect(client().detach(), bytes(200)))
print("bad pointer", connect(client().detach(), ctypes.c_void_p(8), 20))
"""


def test_each_connection_is_made_or_fails_as_the_kernel_would(me: Person) -> None:
    done = me.python(CONNECT)
    assert dict(line.rsplit(" ", 1) for line in done.stdout.splitlines()) == {
        "own": "connected",
        "relative": "connected",
        "through proc": "connected",
        "shared": "connected",
        "abstract": "connected",
        "a file": "ECONNREFUSED",
        "missing": "ENOENT",
        "other family": "EINVAL",
        "no socket": "ENOTSOCK",
        "no descriptor": "EBADF",
        "too long": "EINVAL",
        "bad pointer": "EFAULT",
    }, done.stderr


def test_connections_in_a_row_start_no_threads(me: Person) -> None:
    """Threads and processes have numbers in a row, so that a new process tells how many began."""
    code = (
        "import os, socket\n"
        "def number():\n"
        "    if (pid := os.fork()) == 0: os._exit(0)\n"
        "    os.waitpid(pid, 0); return pid\n"
        "server = socket.create_server(('127.0.0.1', 0), backlog=4096)\n"
        "def connect(times):\n"
        "    for _ in range(times): socket.create_connection(server.getsockname()).close()\n"
        "connect(50); before = number(); connect(1000); print(number() - before)"
    )
    assert int(me.python(code).stdout) <= 10


def test_interfaces_are_listed_and_a_descriptor_is_passed_as_asked(who: Person) -> None:
    code = (
        "import fcntl, os, socket\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK)\n"
        "print(os.get_inheritable(made.fileno()), bool(fcntl.fcntl(made, fcntl.F_GETFL) & os.O_NONBLOCK))"
    )
    assert who.python(code).stdout == "['lo']\nFalse True\n"


BLOCKED = """
import os, socket, threading
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/full"); server.listen(0)
socket.socket(socket.AF_UNIX).connect("/tmp/full")
threading.stack_size(65_536)
for _ in range(200):
    client = socket.socket(socket.AF_UNIX)
    threading.Thread(target=client.connect, args=("/tmp/full",), daemon=True).start()
other = socket.create_server(("127.0.0.1", 0))
for _ in range(20): socket.create_connection(other.getsockname()).close()
print("connected", flush=True)
os._exit(0)
"""


def test_connections_that_wait_delay_no_others(me: Person) -> None:
    done = me.python(BLOCKED)
    assert (done.returncode, done.stdout) == (0, "connected\n"), done.stderr


GROUP = """
import functools, os, signal, time
print = functools.partial(print, flush=True)
def child(*, own):
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        if own: os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
        os.write(write, b"x")
        while True: time.sleep(60)
    os.read(read, 1)
    return pid
signal.signal(signal.SIGUSR1, lambda *_: print("caught"))
member, other = child(own=False), child(own=True)
os.kill(0, 0)
os.kill(0, signal.SIGUSR1)
print(os.waitstatus_to_exitcode(os.waitpid(member, 0)[1]), os.waitpid(other, os.WNOHANG))
try: os.kill(0, 99)
except OSError as fault: print(fault.strerror)
if os.fork() == 0:
    os.setpgid(0, 0)
    os.kill(0, signal.SIGKILL)  # its own group
os.wait()
open(".mcp.json", "w").close()
os.kill(0, signal.SIGKILL)
"""


def test_the_own_group_can_be_signalled_but_not_what_is_outside(who: Person) -> None:
    """Else a program could end `modelplex run` before it reports what was changed."""
    done = subprocess.run(
        who.command("run", "--", sys.executable, "-c", GROUP),
        cwd=who.folder,
        env=who.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        start_new_session=True,
    )
    allowed(done.stderr)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert done.stdout == "caught\n7 (0, 0)\nInvalid argument\n"
    assert "something changed .mcp.json" in done.stderr
    assert sorted(each.name for each in who.folder.iterdir()) == [".mcp.json"]


def test_a_pair_of_datagram_sockets_keeps_messages_apart(who: Person) -> None:
    code = (
        "import socket\n"
        "one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "one.send(b'a'); one.send(b'b'); print(other.recv(9), other.recv(9))"
    )
    assert who.python(code).stdout == "b'a' b'b'\n"


def test_files_of_sockets_are_forgotten_when_removed_and_beyond_the_limit(tmp_path: Path) -> None:
    known = OwnSockets()
    paths = [tmp_path / str(number) for number in range(MAX_SOCKETS + 2)]
    for path in paths:
        path.touch()
    known.add(os.open(paths[0], os.O_PATH))
    known.add(os.open(paths[0], os.O_PATH))
    status = paths[0].stat()
    assert status in known
    paths[0].unlink()
    for path in paths[1:]:
        known.add(os.open(path, os.O_PATH))
    assert status not in known
    assert paths[1].stat() not in known
    assert paths[2].stat() in known
    assert repr(known) == f"<OwnSockets, {MAX_SOCKETS} files>"


def test_a_defect_refuses_the_call_that_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = object.__new__(CallSupervisor)
    monkeypatch.setattr(supervisor, "_answers", {}, raising=False)
    fields = [7, 1, *[0] * (len(NOTIFICATION.unpack(bytes(NOTIFICATION.size))) - 2)]
    response = supervisor._answer(bytearray(NOTIFICATION.pack(*fields)))
    assert RESPONSE.unpack(response)[:3] == (7, 0, -errno.EACCES)
    assert "KeyError" in capsys.readouterr().err
