"""What a test runs inside a sandbox: it tells what it sees there, and asks a second time once a
line comes on stdin. OpenAI's client as it is.
"""

import ctypes
import json
import os
import socket
import sys
from pathlib import Path

from openai import OpenAI

VSOCK, PACKET, NETLINK = 40, 17, 16
IO_URING_SETUP = 425


def opened(family: int, kind: int) -> str:
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "open"


def reached(address: tuple[str, int]) -> str:
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        return str(error.strerror)
    return "reached"


def sockets() -> list[str]:
    return sorted(str(path) for path in Path("/run").rglob("*") if path.is_socket())


def ask(client: OpenAI) -> str:
    whole = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert streamed == whole.choices[0].message.content
    return streamed


libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(256))
seen = {
    "interfaces": [row.split(":")[0].strip() for row in Path("/proc/net/dev").read_text().splitlines()[2:]],
    "network": reached(("192.0.2.1", 443)),
    "name": reached(("api.openai.com", 443)),
    "vsock": opened(VSOCK, socket.SOCK_STREAM),
    "packet": opened(PACKET, socket.SOCK_RAW),
    "netlink": opened(NETLINK, socket.SOCK_RAW),
    "io_uring": "open" if ring >= 0 else os.strerror(ctypes.get_errno()),
    "sockets": sockets(),
    "environment": dict(os.environ),
    "processes": len([path for path in Path("/proc").iterdir() if path.name.isdigit()]),
}
with OpenAI() as client:
    print(json.dumps({**seen, "said": ask(client)}), flush=True)
    sys.stdin.readline()
    print(json.dumps({"said": ask(client)}), flush=True)
sys.exit(7)
