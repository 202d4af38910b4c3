"""`attempts.py FACTS` tries every known way out of a sandbox and prints the result of each."""

# Paths are used as they are written.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH110, PTH116, PTH119, PTH120, PTH208, PTH211, BLE001
import contextlib
import ctypes
import errno
import json
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FACTS: dict[str, Any] = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWCGROUP = 0x10000000, 0x40000000, 0x20000, 0x2000000
X86_CALL = bytes.fromhex("53 b867010000 bb28000000 b901000000 31d2 cd80 5b c3")
"""socket(AF_VSOCK, SOCK_STREAM, 0) by the 32-bit entry: push rbx; mov eax, 359; mov ebx, 40; mov
ecx, 1; xor edx, edx; int 0x80; pop rbx; ret
"""


def call(*words: Any) -> int:
    result = int(LIBC.syscall(*(ctypes.c_long(word) if isinstance(word, int) else word for word in words)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def numbered(x86_64: int, aarch64: int) -> int:
    return x86_64 if os.uname().machine == "x86_64" else aarch64


def tcp() -> None:
    socket.create_connection(("127.0.0.1", FACTS["tcp"]), 5).close()


def tcp_beyond() -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        code = sock.connect_ex((FACTS["beyond"], 443))
        if code != errno.EINPROGRESS:
            raise OSError(code, os.strerror(code))


def udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", FACTS["udp"]))  # so that a refusal is reported
        sock.send(b"ping")
        assert sock.recv(16) == b"pong"


def udp_beyond() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((FACTS["beyond"], 53))


def vsock() -> None:
    socket.socket(
        socket.AF_VSOCK, socket.SOCK_STREAM
    ).close()  # and never a connect: CID 2 is somebody's hypervisor


def alg() -> None:
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()


def netlink_write() -> None:
    """Sets loopback up, also as root of a namespace of its own."""

    def attempt() -> None:
        with contextlib.suppress(OSError):  # root inside may not
            become_root_of_a_namespace()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            header = struct.pack("=IHHII", 32, 16, 5, 1, 0)  # RTM_NEWLINK; a request, to be acknowledged
            sock.send(header + struct.pack("=BxHiII", 0, 0, 1, 1, 1))
            code = -struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if code:
            raise OSError(code, os.strerror(code))

    in_child(attempt)


def netlink_other() -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).close()  # sockets of the system


def unix_datagram() -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close()


def unix_datagram_by_pair() -> None:
    """From one of a pair to a socket of the host's, in place of the other."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.sendto(b"x", FACTS["datagrams"])
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            other.recv(1)
            raise OSError(errno.ENOTCONN, "it went to the other")


def io_uring() -> None:
    try:
        os.close(call(425, 4, ctypes.create_string_buffer(120)))
    except OSError as fault:
        if fault.errno == errno.EPERM:  # sysctl kernel.io_uring_disabled
            raise OSError(errno.ENOTSUP, "switched off here") from None
        raise


def key_ring() -> None:
    call(numbered(250, 219), 0, -3, 0)  # keyctl: get the id of the session's


def in_child(attempt: Callable[[], object]) -> None:
    """An attempt that may kill or change the process."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        code = 0
        try:
            attempt()
        except OSError as fault:
            code = fault.errno or 255
        except BaseException as fault:
            print(fault, file=sys.stderr)
            code = 254
        os.write(writes, bytes([code]))
        os._exit(0)
    os.close(writes)
    code_read = os.read(reads, 1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise OSError(1000 + os.WTERMSIG(status), "killed")
    if code_read != b"\0":
        raise OSError(code_read[0], os.strerror(code_read[0]))


def become_root_of_a_namespace() -> None:
    """With every capability over a new network namespace, also without id maps."""
    if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


def raw() -> None:
    def attempt() -> None:
        with contextlib.suppress(OSError):  # root inside may not, and needs none outside
            become_root_of_a_namespace()
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()

    in_child(attempt)


def packet() -> None:
    def attempt() -> None:
        with contextlib.suppress(OSError):  # root inside may not, and needs none outside
            become_root_of_a_namespace()
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()

    in_child(attempt)


def by_int_80() -> None:
    def attempt() -> None:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(X86_CALL)
        at = ctypes.addressof(ctypes.c_char.from_buffer(page))
        made = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
        if made < 0:
            raise OSError(-made, "int 0x80")

    in_child(attempt)


def inherited_tcp() -> None:
    with socket.socket(fileno=FACTS["inherited_tcp"]) as sock:
        sock.sendall(b"x")


def inherited_udp() -> None:
    with socket.socket(fileno=FACTS["inherited_udp"]) as sock:
        sock.sendto(b"ping", ("127.0.0.1", FACTS["udp"]))


def inherited_folder() -> None:
    os.close(os.open("..", os.O_RDONLY, dir_fd=FACTS["inherited_folder"]))


def abstract() -> None:
    dial("\0" + FACTS["abstract"])


def dial(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)


def socket_in(place: str) -> Callable[[], None]:
    return lambda: dial(FACTS["sockets"][place])


def socket_through_proc() -> None:
    folder = os.open(os.path.dirname(FACTS["sockets"]["folder"]), os.O_PATH)
    dial(f"/proc/self/fd/{folder}/{os.path.basename(FACTS['sockets']['folder'])}")


def socket_by_relative_path() -> None:
    os.chdir(os.path.dirname(FACTS["sockets"]["folder"]))
    dial(os.path.basename(FACTS["sockets"]["folder"]))


def socket_through_link() -> None:
    link = f"/tmp/link-{os.getpid()}"
    os.symlink(FACTS["sockets"]["folder"], link)
    try:
        dial(link)
    finally:
        os.unlink(link)


def socket_in_place_of_an_own() -> None:
    """At a path where this program listened."""
    there = FACTS["sockets"]["folder"]
    own = f"{there}.own"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(own)
        server.listen()
        os.rename(there, own)
        try:
            dial(own)
        finally:
            os.rename(own, there)


def secret() -> None:
    """A key from the environment of the test, in the environment of any process."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if FACTS["secret"].encode() in Path(f"/proc/{entry}/environ").read_bytes():
                return
    raise OSError(errno.ENOENT, "nowhere")


def host_process() -> None:
    if not Path(f"/proc/{FACTS['pid']}").exists():
        raise OSError(errno.ENOENT, "not listed")


def host_pidfd() -> None:
    os.close(os.pidfd_open(FACTS["pid"]))


def victim() -> int:
    """Outside a process of the same user; inside PID 1, the supervisor."""
    return int(FACTS["pid"]) if os.path.exists(f"/proc/{FACTS['pid']}") else 1


def first_ptrace() -> None:
    in_child(
        lambda: call(numbered(101, 117), 0x4206, victim(), 0, 0)
    )  # PTRACE_SEIZE, which ends with the child


def first_descriptor() -> None:
    pidfd = os.pidfd_open(victim())
    os.close(call(438, pidfd, 0, 0))


def first_memory() -> None:
    Path(f"/proc/{victim()}/mem").open("rb").close()


def first_root() -> None:
    os.listdir(f"/proc/{victim()}/root/")


def enter_network() -> None:
    def attempt() -> None:
        number = os.open(f"/proc/{FACTS['pid']}/ns/net", os.O_RDONLY)
        if os.geteuid() == 0 and LIBC.setns(number, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    in_child(attempt)


def enter_of_first() -> None:
    def attempt() -> None:
        os.close(os.open(f"/proc/{victim()}/ns/net", os.O_RDONLY))

    in_child(attempt)


def home_file() -> None:
    Path(FACTS["home_file"]).read_text()


def setting_of_the_host() -> None:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


def mount_again() -> None:
    place = f"/tmp/mounted-{os.getpid()}"  # not /tmp: outside it works, and hides what others do there
    os.mkdir(place)
    try:
        if LIBC.mount(b"tmpfs", place.encode(), b"tmpfs", ctypes.c_ulong(0), b""):
            raise OSError(ctypes.get_errno(), "mount")
        LIBC.umount2(place.encode(), 2)
    finally:
        os.rmdir(place)


def device() -> None:
    os.stat(FACTS["device"])


def control_groups() -> None:
    """Their files are uid 0's, whatever capabilities it lacks; a namespace of its own lets it mount
    them.
    """

    def attempt() -> None:
        if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP):
            raise OSError(ctypes.get_errno(), "unshare")
        place = f"/tmp/groups-{os.getpid()}"
        os.mkdir(place)
        try:
            if LIBC.mount(b"none", place.encode(), b"cgroup2", ctypes.c_ulong(0), b""):
                raise OSError(ctypes.get_errno(), "mount")
            os.close(os.open(f"{place}/cgroup.procs", os.O_WRONLY))
        finally:
            LIBC.umount2(place.encode(), 2)
            os.rmdir(place)

    in_child(attempt)


def log_of_the_kernel() -> None:
    call(numbered(103, 116), 10, 0, 0)  # syslog: its size


def counters() -> None:
    """Of this process alone, which is the most that is open to everybody; where more is, so is more
    of the host's.
    """
    attributes = ctypes.create_string_buffer(bytes([1, 0, 0, 0, 112, 0, 0, 0]).ljust(112, b"\0"))
    attributes[40] = b"\x60"  # without the kernel's and the hypervisor's share
    os.close(call(numbered(298, 241), attributes, 0, -1, -1, 0))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "tcp": tcp,
    "tcp_beyond": tcp_beyond,
    "udp": udp,
    "udp_beyond": udp_beyond,
    "vsock": vsock,
    "alg": alg,
    "netlink_write": netlink_write,
    "netlink_other": netlink_other,
    "unix_datagram": unix_datagram,
    "unix_datagram_by_pair": unix_datagram_by_pair,
    "io_uring": io_uring,
    "key_ring": key_ring,
    "raw": raw,
    "packet": packet,
    "by_int_80": by_int_80,
    "inherited_tcp": inherited_tcp,
    "inherited_udp": inherited_udp,
    "inherited_folder": inherited_folder,
    "abstract": abstract,
    **{f"socket_in_{place}": socket_in(place) for place in ("tmp", "run", "home", "folder", "later")},
    "socket_through_proc": socket_through_proc,
    "socket_by_relative_path": socket_by_relative_path,
    "socket_through_link": socket_through_link,
    "socket_in_place_of_an_own": socket_in_place_of_an_own,
    "secret": secret,
    "host_process": host_process,
    "host_pidfd": host_pidfd,
    "first_ptrace": first_ptrace,
    "first_descriptor": first_descriptor,
    "first_memory": first_memory,
    "first_root": first_root,
    "enter_network": enter_network,
    "enter_of_first": enter_of_first,
    "home_file": home_file,
    "setting_of_the_host": setting_of_the_host,
    "mount_again": mount_again,
    "device": device,
    "control_groups": control_groups,
    "log_of_the_kernel": log_of_the_kernel,
    "counters": counters,
}


def main() -> None:
    if "ready" in FACTS:  # somebody makes one more socket now
        Path(FACTS["ready"]).write_text("")
        sys.stdin.readline()
    results: dict[str, str] = {}
    results["descriptors"] = ",".join(
        name
        for name in os.listdir("/proc/self/fd")
        if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}")
    )
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError as fault:
            number = fault.errno or 0
            results[name] = (
                f"SIG{number - 1000}" if number > 1000 else errno.errorcode.get(number, str(number))
            )
        except KeyError:
            results[name] = "not tried"
        else:
            results[name] = "works"
    results["interfaces"] = ",".join(
        row.split(":")[0].strip() for row in Path("/proc/net/dev").read_text().splitlines()[2:]
    )
    results["environ"] = ",".join(sorted(os.environ))
    results["processes"] = ",".join(name for name in os.listdir("/proc") if name.isdigit())
    print(json.dumps(results))


if __name__ == "__main__":
    main()
