"""The process at the other end of a socket, and its network: real processes in real namespaces."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.caller import Peer, PeerNetwork
from modelplex.server import callers
from modelplex.server.peer import UNKNOWN, attest, credentials, interfaces
from tests.gateways import WAIT_S, Running, gateway, one
from tests.upstreams import answer, chat_answer, provider

ROOT = os.geteuid() == 0
BODY = json.dumps(chat_answer()).encode()
CHAT = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}

PEER = """
import json, os, socket, sys, threading
def say(path, target, body):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    data = body.encode()
    head = f"POST {target} HTTP/1.1\\r\\nhost: x\\r\\ncontent-type: application/json\\r\\ncontent-length: {len(data)}\\r\\nconnection: close\\r\\n\\r\\n"
    connection.sendall(head.encode() + data)
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    head, _, body = answer.partition(b"\\r\\n\\r\\n")
    print(json.dumps([int(head.split()[1]), body.decode(), os.getpid()]))
"""
LEADER_ALONE = """
import ctypes
held = threading.Event()
threading.Thread(target=held.wait, daemon=True).start()
if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET, of this thread alone
    raise OSError(ctypes.get_errno(), "unshare")
assert [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]] == ["lo"]
"""


def works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return (
        subprocess.run([*command, "true"], capture_output=True, check=False, timeout=WAIT_S).returncode == 0
    )


EMPTY = ["unshare", "-n"] if ROOT else ["unshare", "-rn"]
ALONE = [] if ROOT else ["unshare", "-r"]
needs_namespaces = pytest.mark.skipif(
    not works(*EMPTY),
    reason=f"this kernel gives this user no namespace of its own: {' '.join(EMPTY)} fails"
    if shutil.which("unshare")
    else "unshare is not installed",
)
needs_a_network = pytest.mark.skipif(
    not interfaces(os.getpid()), reason="this machine itself has no interface but lo"
)


async def call(
    socket: str, *prefix: str, target: str = "/v1/chat/completions", before: str = ""
) -> tuple[int, Any, int]:
    """Status, body and pid of a peer, a process that `prefix` starts."""
    script = f"{PEER}\n{before}\nsay(sys.argv[1], sys.argv[2], sys.argv[3])"
    child = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-c", script, socket, target, json.dumps(CHAT),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(child.communicate(), WAIT_S)
    assert child.returncode == 0, errors.decode()
    status, body, pid = json.loads(out)
    return status, json.loads(body), pid


def config(url: str, *, server: str) -> str:
    return f"[server]\n{server}\n{one(url)}"


@needs_namespaces
@needs_a_network
async def test_require_serves_a_caller_in_an_empty_namespace_and_refuses_one_with_a_network(
    tmp_path: Path,
) -> None:
    async with provider(answer(BODY)) as up:
        async with gateway(config(up.url, server='attest = "require"'), folder=tmp_path) as running:
            status, body, pid = await call(running.socket)
            theirs = ", ".join(interfaces(os.getpid()) or ())
            assert status == 403
            assert (
                f"this socket serves callers without a network; yours has {theirs} (pid {pid})"
                in body["error"]["message"]
            )
            assert body["error"]["code"] == "caller_has_network"
            status, body, _ = await call(running.socket, target="/v1/messages")
            assert (status, body["type"], body["error"]["type"]) == (403, "error", "permission_error")
            status, body, _ = await call(running.socket, target="/api/chat")
            assert status == 403
            assert isinstance(body["error"], str)
            assert not up.seen
            status, _, pid = await call(running.socket, *EMPTY)
            assert status == 200
            assert [(await running.record(n)).code for n in (1, 2, 3)] == ["caller_has_network"] * 3
            record = await running.record(4)
            assert record.peer_network == PeerNetwork("isolated")
            assert record.peer == Peer(pid, os.geteuid(), os.getegid())


@needs_namespaces
@needs_a_network
async def test_a_caller_with_only_its_first_thread_in_an_empty_namespace_has_a_network(
    tmp_path: Path,
) -> None:
    async with provider(answer(BODY)) as up:
        async with gateway(config(up.url, server='attest = "require"'), folder=tmp_path) as running:
            status, body, _ = await call(running.socket, *ALONE, before=LEADER_ALONE)
            assert status == 403
            assert "yours has" in body["error"]["message"]
            assert not up.seen


@needs_namespaces
async def test_a_gateway_in_its_own_pid_namespace_cannot_see_and_refuses(tmp_path: Path) -> None:
    socket = tmp_path / "m.sock"
    file = tmp_path / "config.toml"
    file.write_text(f'[server]\nsocket = "{socket}"\nattest = "require"\n[[providers]]\ntype = "demo"\n')
    own = ["unshare", *([] if ROOT else ["-r"]), "-p", "--fork", "--kill-child"]
    if not works(*own):
        pytest.skip("this kernel gives this user no PID namespace of its own")
    environ = {**os.environ, "OLLAMA_HOST": "http://127.0.0.1:1"}
    with subprocess.Popen(  # noqa: ASYNC220 - it starts in milliseconds
        [*own, sys.executable, "-m", "modelplex", "--config", str(file)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ,
    ) as served:  # fmt: skip
        try:
            end = time.monotonic() + WAIT_S
            while not socket.exists():
                assert served.poll() is None
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            status, body, _ = await call(str(socket), *EMPTY)
            assert status == 403
            assert "could not be seen" in body["error"]["message"]
        finally:
            served.kill()


@needs_a_network
async def test_warn_serves_and_logs_a_caller_with_a_network_once_per_connection(tmp_path: Path) -> None:
    async with provider(answer(BODY)) as up:
        async with gateway(config(up.url, server='attest = "warn"'), folder=tmp_path) as running:
            for _ in range(3):  # on one connection
                assert (await running.chat(unix=True)).status == 200
            seen = interfaces(os.getpid()) or ()
            assert (await running.record()).peer_network == PeerNetwork("networked", seen)
            view = (await running.ask("GET", "/_internal/agents")).json
            assert view["others"] == {"attested": {"reach": "networked", "interfaces": list(seen)}}
    rows = [json.loads(row) for row in (tmp_path / "log.json").read_text().splitlines()]
    (warned,) = [row for row in rows if row["event"] == "a caller has a network"]
    assert (warned["level"], warned["pid"]) == ("warning", os.getpid())


@needs_a_network
async def test_a_connection_without_a_request_is_not_reported(tmp_path: Path) -> None:
    """`modelplex run` makes one from outside the namespace before it starts a program."""
    async with provider(answer(BODY)) as up:
        async with gateway(config(up.url, server='attest = "require"'), folder=tmp_path) as running:
            for _ in range(3):
                _, writer = await asyncio.open_unix_connection(running.socket)
                writer.close()
                await writer.wait_closed()
            assert (await running.ask("GET", "/_internal/agents")).json["others"] == {"attested": None}
            assert (await running.chat(unix=True)).status == 403
    rows = [json.loads(row) for row in (tmp_path / "log.json").read_text().splitlines()]
    assert len([row for row in rows if row["event"] == "a caller was refused"]) == 1


async def _three_requests(running: Running) -> None:
    for _ in range(3):
        assert (await running.chat(unix=True)).status == 200


async def test_a_caller_is_attested_once_per_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attested: list[Peer | None] = []

    def counted(sock: Any, peer: Peer | None) -> PeerNetwork:
        attested.append(peer)
        return attest(sock, peer)

    monkeypatch.setattr(callers, "attest", counted)
    async with provider(answer(BODY)) as up:
        async with gateway(config(up.url, server='attest = "warn"'), folder=tmp_path) as running:
            await _three_requests(running)
            assert len(attested) == 1
        attested.clear()
        async with gateway(config(up.url, server='attest = "off"'), folder=tmp_path) as running:
            await _three_requests(running)
            assert not attested
            assert (await running.record()).peer_network is None


async def test_a_user_that_is_not_allowed_is_refused_with_its_uid(
    tmp_path: Path,
) -> None:
    uid = os.geteuid()
    async with provider(answer(BODY)) as up:
        async with gateway(config(up.url, server=f"allow_uid = [{uid + 1}]"), folder=tmp_path) as running:
            refused = await running.chat(unix=True)
            assert (refused.status, refused.error["code"]) == (403, "uid_not_allowed")
            assert f"uid {uid} (pid {os.getpid()})" in refused.error["message"]
            status, body, _ = await call(running.socket, target="/v1/messages")
            assert (status, body["error"]["type"]) == (403, "permission_error")
            assert not up.seen
            assert (await running.chat()).status == 200  # TCP has no uid
        rows = [json.loads(row) for row in (tmp_path / "log.json").read_text().splitlines()]
        refusals = [row for row in rows if row["event"] == "a caller was refused"]
        assert [row["uid"] for row in refusals] == [uid, uid]
        async with gateway(config(up.url, server=f"allow_uid = [{uid}]"), folder=tmp_path) as running:
            assert (await running.chat(unix=True)).status == 200


# --- attestation


class Socket:
    def __init__(self, pid: int, *, pidfd: int | None = None) -> None:
        self.pid, self.pidfd = pid, pidfd

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        del level
        if optname == 77:
            if self.pidfd is None:
                raise OSError(92, "Protocol not available")
            return self.pidfd.to_bytes(4, sys.byteorder)
        assert buflen == 12
        return b"".join(n.to_bytes(4, sys.byteorder) for n in (self.pid, 4294967294, 0))


def test_credentials_come_from_the_kernel() -> None:
    assert credentials(Socket(7)) == Peer(7, 4294967294, 0)


@pytest.mark.parametrize("pid", [0, 4_194_305])
def test_the_network_of_an_invisible_process_is_unknown(pid: int) -> None:
    assert attest(Socket(pid), Peer(pid, 0, 0)) == UNKNOWN


def test_the_network_of_an_exited_process_is_unknown_even_if_its_pid_is_reused() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pidfd = os.pidfd_open(child.pid)
        child.wait(WAIT_S)
    # The pid is that of this test, which can be read.
    assert attest(Socket(os.getpid(), pidfd=pidfd), Peer(os.getpid(), 0, 0)) == UNKNOWN
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pidfd)  # it was closed


def test_the_network_of_a_live_process_is_what_its_threads_see() -> None:
    pidfd = os.pidfd_open(os.getpid())
    seen = interfaces(os.getpid())
    assert seen is not None
    expected = PeerNetwork("networked", seen) if seen else PeerNetwork("isolated")
    assert attest(Socket(os.getpid(), pidfd=pidfd), Peer(os.getpid(), 0, 0)) == expected
