"""The door of an empty network namespace: `bridge.py SOCKET -- COMMAND ARGUMENTS` raises `lo`,
listens on 127.0.0.1:11435, carries every connection to the gateway's Unix socket, runs the command
and returns its status. Run it inside the namespace; nothing but the standard library.
"""

import contextlib
import fcntl
import socket
import struct
import subprocess
import sys
import threading

PORT = 11435
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PIECE = 65_536


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def copy(source: socket.socket, target: socket.socket) -> None:
    """One way. An end becomes a half-close, so that a streamed answer is not cut."""
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def carry(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as gateway:
        try:
            gateway.connect(path)
        except OSError as error:
            print(f"bridge: {path}: {error}", file=sys.stderr)
            return
        back = threading.Thread(target=copy, args=(gateway, client), daemon=True)
        back.start()
        copy(client, gateway)
        back.join()


def accept(listener: socket.socket, path: str) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=carry, args=(client, path), daemon=True).start()


def main() -> int:
    path, _, *command = sys.argv[1:]
    raise_loopback()
    listener = socket.create_server(("127.0.0.1", PORT), backlog=64)
    threading.Thread(target=accept, args=(listener, path), daemon=True).start()
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main())
