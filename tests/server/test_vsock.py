"""AF_VSOCK listeners. No test connects to CID 2, the host of this machine."""

import asyncio
import socket
from pathlib import Path

import pytest

from modelplex.config import load
from modelplex.core.caller import PeerNetwork
from modelplex.server.address import ListenError, Vsock
from modelplex.server.callers import CallerResolver
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_registry import ConnectionRegistry
from modelplex.server.listeners import BoundSocket, Listening, as_unix_socket, bind_vsock, serve
from modelplex.server.process import GatewayProcess
from tests.gateways import WAIT_S

PORT = 21_435
LOCAL = 1
"""VMADDR_CID_LOCAL: the loopback of AF_VSOCK."""


def vsock_fault() -> str | None:
    try:
        bind_vsock(Vsock(PORT)).close()
    except ListenError as fault:
        return fault.sentence
    return None


def loopback_fault() -> str | None:
    """Binding to the loopback fails at once where there is none; connecting would wait."""
    if (fault := vsock_fault()) is not None:
        return fault
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOCAL, PORT + 1))
        except OSError as error:
            return f"this kernel has no loopback for AF_VSOCK: {error.strerror}"
    return None


needs_vsock = pytest.mark.skipif(vsock_fault() is not None, reason=str(vsock_fault()))
needs_loopback = pytest.mark.skipif(loopback_fault() is not None, reason=str(loopback_fault()))


def process(folder: Path) -> GatewayProcess:
    file = folder / "config.toml"
    file.write_text(
        f'[server]\nvsock = {PORT}\n[[providers]]\ntype = "demo"\n[log]\nfile = "{folder / "log.json"}"\n'
    )
    return GatewayProcess(load(str(file), environ={}), config_path=str(file), verbose=False)


async def started(gateway: GatewayProcess) -> asyncio.Task[int]:
    serving = asyncio.create_task(gateway.serve())
    async with asyncio.timeout(WAIT_S):
        while not gateway.addresses and not serving.done():
            await asyncio.sleep(0.005)
    return serving


@needs_vsock
async def test_a_port_is_bound_and_freed_at_the_end(tmp_path: Path) -> None:
    gateway = process(tmp_path)
    serving = await started(gateway)
    assert gateway.addresses == [f"vsock:{PORT}"]
    with pytest.raises(ListenError, match=f"vsock:{PORT} is in use"):
        bind_vsock(Vsock(PORT))
    gateway.stop()
    assert await asyncio.wait_for(serving, WAIT_S) == 0
    bind_vsock(Vsock(PORT)).close()


@needs_loopback
async def test_a_guest_is_served(tmp_path: Path) -> None:
    gateway = process(tmp_path)
    serving = await started(gateway)
    guest = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    guest.settimeout(WAIT_S)
    await asyncio.to_thread(guest.connect, (LOCAL, PORT))
    guest.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=guest)
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), WAIT_S)).startswith(b"HTTP/1.1 200")
    writer.close()
    gateway.stop()
    await asyncio.wait_for(serving, WAIT_S)


def test_a_kernel_without_vsock_is_a_listen_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    with monkeypatch.context() as here:
        here.setattr("modelplex.server.listeners.socket.socket", refuse)
        with pytest.raises(ListenError, match=r"vsock:5: the kernel has no AF_VSOCK .*not supported"):
            bind_vsock(Vsock(5))


async def test_serving_a_vsock_port_uses_no_call_of_its_address_family(tmp_path: Path) -> None:
    """With a descriptor of TCP in place of one of vsock: it too becomes a Unix socket."""
    gateway = process(tmp_path)
    plain = socket.create_server(("127.0.0.1", 0))
    where = plain.getsockname()
    loop = asyncio.get_running_loop()
    bound = BoundSocket(Vsock(PORT), plain)
    listening = Listening(
        [bound], traffic=ConnectionRegistry(limits=ConnectionLimits(), loop=loop), stopping=asyncio.Event()
    )
    callers = CallerResolver(load(str(tmp_path / "config.toml"), environ={}))
    bound.server = await serve(bound, gateway.app, listening=listening, loop=loop, callers=callers)
    for target, status in (("/health", b"200"), ("/_internal/status", b"404")):
        reader, writer = await asyncio.open_connection(*where)
        # A Host that no TCP listener would serve.
        writer.write(f"GET {target} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.read(), WAIT_S)).split()[1] == status
        writer.close()
    await listening.drain()
    gateway._log.close()


def test_a_guest_has_the_policy_of_sockets_and_an_unknown_network(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[server]\nvsock = 5\nattest = "off"\n[[providers]]\ntype = "demo"\n')
    client = CallerResolver(load(str(file), environ={})).identify(None, listener="vsock:5", kind="vsock")
    assert client.caller.sealed
    assert client.caller.attested == PeerNetwork("unknown")
    assert client.caller.owner == "vsock:5"


def test_a_descriptor_becomes_a_unix_socket() -> None:
    plain = socket.create_server(("127.0.0.1", 0))
    number = plain.fileno()
    with as_unix_socket(plain) as renamed:
        assert (renamed.fileno(), renamed.family) == (number, socket.AF_UNIX)
        assert plain.fileno() == -1
