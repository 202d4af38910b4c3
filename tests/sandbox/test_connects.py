"""The supervisor that makes the connections of a sandbox."""

from __future__ import annotations

from tests.sandbox.sandboxes import Person


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
        "shared": "EACCES",
        "abstract": "connected",
        "a file": "ECONNREFUSED",
        "missing": "ENOENT",
        "other family": "EINVAL",
        "no socket": "ENOTSOCK",
        "no descriptor": "EBADF",
        "too long": "EINVAL",
        "bad pointer": "EFAULT",
    }, done.stderr
