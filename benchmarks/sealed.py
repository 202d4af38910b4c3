"""What the sealed policy costs: CPU milliseconds of the gateway's process for a request over the
Unix socket, sealed and open, where nothing is stripped.

A provider and a client in this process ask a gateway in another. By itself: `python -m
benchmarks.sealed`. The policy alone, in this process, is the last column.
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import bodies
from modelplex.dialects.openai_chat.dialect import CHAT
from modelplex.policy.judge import judge
from modelplex.policy.verdict import Facts

ROUNDS = 5
REQUESTS = {"500 B": 1000, "40 KB": 400, "1 MB": 60}
"""For each size, of one round: enough that the kernel's hundredths of a second are no matter."""
START_LIMIT_S = 20.0
TICKS = os.sysconf("SC_CLK_TCK")
ANSWER = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)


async def _provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A provider that answers at once."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        while True:
            await _message(reader)
            writer.write(REPLY)
    writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(row.partition(b":")[2])
        for row in head.lower().split(b"\r\n")
        if row.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return head


def _spent(pid: int) -> float:
    """CPU milliseconds that a process took until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICKS


async def _measured(path: Path, pid: int, body: bytes, *, count: int) -> float:
    """CPU milliseconds for a request, in the gateway."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"

    async def ask(times: int) -> None:
        for _ in range(times):
            writer.write(head.encode() + body)
            await writer.drain()
            if not (await _message(reader)).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("the gateway refused")

    await ask(count // 10)
    before = _spent(pid)
    await ask(count)
    spent = _spent(pid) - before
    writer.close()
    return spent / count


def _figures(policy: str) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="mpx") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        path, config = Path(folder, "m.sock"), Path(folder, "c.toml")
        config.write_text(
            f'[server]\nsocket = "{path}"\n[policy]\nsocket = "{policy}"\n[log]\nfile = "{folder}/log"\n'
            f'[[providers]]\nname = "up"\ntype = "llamacpp"\nbase_url = "http://127.0.0.1:{listener.getsockname()[1]}/v1"\n'
            'models = ["gpt-bench"]\n'
        )
        command = [sys.executable, "-m", "modelplex", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as gateway:
            try:
                give_up = time.monotonic() + START_LIMIT_S
                while not path.exists():
                    if time.monotonic() > give_up:
                        raise RuntimeError("the gateway did not start")
                    time.sleep(0.05)
                return asyncio.run(_asked(path, gateway.pid, listener))
            finally:
                gateway.terminate()


async def _asked(path: Path, pid: int, listener: socket.socket) -> dict[str, float]:
    async with await asyncio.start_server(_provide, sock=listener, limit=1 << 21):
        return {
            name: statistics.median(
                [await _measured(path, pid, body, count=REQUESTS[name]) for _ in range(ROUNDS)]
            )
            for name, body in _bodies().items()
        }


def _bodies() -> dict[str, bytes]:
    """As the official clients write them."""
    spaced = {name: bodies.body(size) for name, size in bodies.PLAIN.items()}
    return {
        name: json.dumps(json.loads(body), separators=(",", ":")).encode() for name, body in spaced.items()
    }


def _judged(body: bytes) -> float:
    """Milliseconds for the policy alone."""
    facts = Facts(agent="bench", secret=b"s" * 32)
    took: list[float] = []
    for _ in range(30):
        started = time.perf_counter()
        judge(body, table=CHAT.policy, facts=facts)
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


def main() -> None:
    opened, sealed = _figures("open"), _figures("sealed")
    print("| body | open | sealed | times | the policy alone |\n|---|---|---|---|---|")
    for name, body in _bodies().items():
        times = sealed[name] / opened[name]
        print(
            f"| {name} | {opened[name]:.2f} ms | {sealed[name]:.2f} ms | {times:.2f} | {_judged(body):.2f} ms |"
        )


if __name__ == "__main__":
    main()
