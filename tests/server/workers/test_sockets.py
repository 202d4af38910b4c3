"""The sockets that the supervisor holds."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.config.workers import assign
from modelplex.server.address import ListenError
from modelplex.server.workers.sockets import HeldSockets
from tests.processes import free_port, names


def config(folder: Path, *, http: str = "127.0.0.1:0", more: str = "") -> Config:
    text = (
        f'[server]\nworkers = 2\nhttp = "{http}"\nsocket = "{folder / "m.sock"}"\n{more}\n'
        f'[[agents]]\nname = "a"\nsocket = "{folder / "a.sock"}"\n'
    )
    return parse(text.encode(), file="config.toml", environ={}, types=provider_types())


def held(config: Config) -> HeldSockets:
    return HeldSockets(config, assign(config))


def test_each_socket_has_one_worker_and_a_port_has_all(tmp_path: Path) -> None:
    sockets = held(config(tmp_path))
    assert sockets.addresses[1:] == [f"unix:{tmp_path}/m.sock", f"unix:{tmp_path}/a.sock"]
    first, second = ([each.url for each in sockets.of_worker[number]] for number in (1, 2))
    assert first == [sockets.addresses[0], f"unix:{tmp_path}/m.sock"]
    assert second == [sockets.addresses[0], f"unix:{tmp_path}/a.sock"]
    sockets.publish()
    port = int(sockets.addresses[0].rpartition(":")[2])
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(64)]
    # The kernel has given both some of them.
    for number in (1, 2):
        listening = sockets.of_worker[number][0].socket
        listening.settimeout(5)
        listening.accept()[0].close()
    for client in clients:
        client.close()
    sockets.close()
    assert names(tmp_path) == []


def test_a_port_that_another_process_shares_is_in_use(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ListenError, match="in use by another process"):
            held(config(tmp_path, http=f"127.0.0.1:{other.getsockname()[1]}"))
    assert names(tmp_path) == []


def test_a_port_of_several_workers_is_in_use_for_others(tmp_path: Path) -> None:
    port = free_port()
    sockets = held(config(tmp_path, http=f"127.0.0.1:{port}"))
    (tmp_path / "other").mkdir()
    with pytest.raises(ListenError, match="in use by another process"):
        held(config(tmp_path / "other", http=f"127.0.0.1:{port}"))
    sockets.close()
    held(config(tmp_path, http=f"127.0.0.1:{port}")).close()


def test_if_one_cannot_be_bound_none_is(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("a file")
    with pytest.raises(ListenError, match="not a socket"):
        held(config(tmp_path, more=f'[mcp]\nenabled = true\nstdio_socket = "{tmp_path / "lines"}"'))
    assert names(tmp_path) == ["lines"]


def test_the_stdio_socket_is_held_and_http_has_one_worker(tmp_path: Path) -> None:
    sockets = held(config(tmp_path, more=f'[mcp]\nenabled = true\nstdio_socket = "{tmp_path / "lines"}"'))
    assert sockets.stdio is not None
    assert sockets.stdio.url == f"unix:{tmp_path}/lines"
    assert [sockets.addresses[0] in map(str, [e.url for e in sockets.of_worker[n]]) for n in (1, 2)] == [
        True,
        False,
    ]
    sockets.publish()
    assert (tmp_path / "lines").is_socket()
    sockets.close()
    assert names(tmp_path) == []


def test_more_agents_than_open_files_are_allowed_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[int] = []
    monkeypatch.setattr("modelplex.server.process_setup.raise_descriptors", allowed.append)
    sockets = held(config(tmp_path))
    agents = "".join(f'[[agents]]\nname = "a{n}"\nsocket = "{tmp_path}/{n}.sock"\n' for n in range(1000))
    sockets.update(config(tmp_path, more=agents))
    assert allowed[-1] > 2000 > allowed[0]
    sockets.close()
