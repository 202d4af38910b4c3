"""Which worker serves which listener."""

from __future__ import annotations

from collections import Counter

import pytest

from modelplex.config.workers import assign, extended, reload_conflict, why_tied
from tests.config.configs import read

TOKEN = 'token = "a-long-enough-token"'


def agents(count: int) -> str:
    return "".join(f'[[agents]]\nname = "{n}"\nsocket = "/{n}.sock"\n' for n in range(count))


def test_sockets_are_balanced_and_http_is_on_every_worker() -> None:
    config = read(f'[server]\nworkers = 3\nhttp = ":1"\nsocket = "/m.sock"\nvsock = 7\n{agents(7)}')
    found = assign(config)
    assert (found.count, found.tied) == (3, "")
    assert set(found.sockets) == {"/m.sock", "vsock:7", *(f"/{n}.sock" for n in range(7))}
    assert Counter(found.sockets.values()) == {1: 3, 2: 3, 3: 3}
    assert found == assign(config)
    assert [found.worker_of(name) for name in "01"] == [found.sockets["/0.sock"], found.sockets["/1.sock"]]
    for number in (1, 2, 3):
        assert "127.0.0.1:1" in found.served_by(number, config)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'[[agents]]\nname = "t"\n{TOKEN}', "has a token"),
        ("[mcp]\nenabled = true", "[mcp]"),
        ('keep_responses = "memory"', "keep_responses"),
    ],
)
def test_what_ties_http_to_the_first_worker(text: str, reason: str) -> None:
    server = '[server]\nworkers = 2\nhttp = ":1"\n'
    config = read(f"{server}{text}\n{agents(3)}")
    found = assign(config)
    assert reason in found.tied == why_tied(config)
    assert found.served_by(1, config)[0] == "127.0.0.1:1"
    assert "127.0.0.1:1" not in found.served_by(2, config)
    # HTTP counts as one of the sockets that are balanced.
    assert Counter(found.sockets.values()) == {1: 1, 2: 2}


def test_shared_listeners_and_sockets_of_agents_with_tokens_are_on_one_worker() -> None:
    server = '[server]\nworkers = 2\nhttp = ":1"\nsocket = "/m.sock"\nvsock = 7\n'
    token = '[[agents]]\nname = "t"\nsocket = "/t.sock"\ntoken = "a-long-enough-token"\n'
    found = assign(read(server + agents(1) + token))
    assert found.sockets == {"/m.sock": 1, "vsock:7": 1, "/t.sock": 1, "/0.sock": 2}


def test_a_worker_without_a_listener_is_not_counted() -> None:
    assert assign(read(f"[server]\nworkers = 4\nhttp = []\n{agents(2)}")).count == 2
    assert assign(read("[server]\nworkers = 4\nhttp = []\nsocket = '/m.sock'\n")).count == 1
    assert assign(read(f'[server]\nworkers = 4\nhttp = ":1"\n[[agents]]\nname = "t"\n{TOKEN}\n')).count == 1


def test_a_reload_that_would_split_a_caller_is_a_conflict() -> None:
    server = f'[server]\nworkers = 2\nhttp = ":1"\n{agents(2)}'
    spread, tied = assign(read(server)), assign(read(f'{server}[[agents]]\nname = "t"\n{TOKEN}\n'))
    assert reload_conflict(spread, read(server + '[aliases]\nx = ["m"]\n')) == ""
    assert "[mcp] is enabled" in reload_conflict(spread, read(server + "[mcp]\nenabled = true\n"))
    assert "'new' has a token" in reload_conflict(
        spread, read(f'{server}[[agents]]\nname = "new"\n{TOKEN}\n')
    )
    # With HTTP on the first worker, new tokens belong there; but not the agent of another worker.
    assert reload_conflict(tied, read(f'{server}[[agents]]\nname = "new"\n{TOKEN}\n')) == ""
    assert reload_conflict(tied, read(server + "[mcp]\nenabled = true\n")) == ""
    other = next(name for name in "01" if tied.worker_of(name) == 2)
    moved = server.replace(f'name = "{other}"', f'name = "{other}"\n{TOKEN}')
    assert f"'{other}' has a token" in reload_conflict(tied, read(moved))


def test_a_new_agents_socket_goes_to_the_worker_with_the_fewest_and_others_stay() -> None:
    server = '[server]\nworkers = 2\nhttp = []\nsocket = "/m.sock"\nadmin_socket = "/admin.sock"\n'
    before = assign(read(server + agents(4)))
    assert before.count == 2
    fewer = [f'[[agents]]\nname = "{n}"\nsocket = "/{n}.sock"\n' for n in (0, 3)]
    new = f'[[agents]]\nname = "new"\nsocket = "/new.sock"\n{TOKEN}\n'
    config = read(f'{server}{"".join(fewer)}{new}[[agents]]\nname = "more"\nsocket = "/more.sock"\n')
    found = extended(before, config)
    for name in ("/m.sock", "/admin.sock", "/0.sock", "/3.sock"):
        assert found.sockets[name] == before.sockets[name]
    assert found.worker_of("new") == 1
    assert found.worker_of("more") == 2
    assert set(found.agents) == {"0", "3", "new", "more"}
    assert extended(before, read(server + agents(4))) == before


def test_a_token_on_a_shared_socket_of_another_worker_is_a_conflict() -> None:
    server = '[server]\nworkers = 2\nhttp = []\nsocket = ["/m.sock", "/n.sock"]\n'
    before = assign(read(server))
    config = read(f'{server}[[agents]]\nname = "new"\n{TOKEN}\n')
    assert "'new' has a token" in reload_conflict(extended(before, config), config)


def test_workers_that_may_get_agents_later_are_started() -> None:
    assert assign(read('[server]\nworkers = 4\nhttp = []\nadmin_socket = "/admin.sock"\n')).count == 4
