"""The next config: the file's, joined with the agents of the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.config import load
from modelplex.core.errors import BadRequest, Conflict, NotFound
from modelplex.server.config_source import ConfigSource, open_source
from tests.server.test_config_file import Events


def source(folder: Path, *, agents: str = "", admin: bool = True) -> ConfigSource:
    path = folder / "config.toml"
    admin_socket = f'admin_socket = "{folder / "admin.sock"}"' if admin else ""
    path.write_text(
        f'[server]\nstate_folder = "{folder / "state"}"\n{admin_socket}\n[[providers]]\ntype = "demo"\n{agents}'
    )
    return open_source(load(str(path), environ={}), str(path))


OWN = '[[agents]]\nname = "own"\nsocket = "/own.sock"\n'


def used(found: ConfigSource, body: bytes, *, name: str = "new") -> str:
    change = found.put(name, body)
    if change.joined is not None:
        change.stored.save()
        found.use(change.joined, change.stored)
    return change.outcome


def test_an_agent_is_created_replaced_and_deleted(tmp_path: Path) -> None:
    found = source(tmp_path, agents=OWN)
    assert used(found, b'{"socket":"/new.sock"}') == "created"
    assert used(found, b'{"socket":"/new.sock"}') == "unchanged"
    assert used(found, b'{"socket":"/new.sock","concurrent":2}') == "replaced"
    assert [agent.name for agent in found.config.agents] == ["own", "new"]
    assert found.config.agents[1].concurrent == 2
    assert found.added == {"new"}
    # After a restart, and after a reload of the file.
    assert open_source(load(str(tmp_path / "config.toml"), environ={}), None).added == {"new"}
    joined = found.load(events=Events())
    assert joined is not None
    assert [agent.name for agent in joined.config.agents] == ["own", "new"]
    deleted = found.delete("new")
    assert deleted.joined is not None
    assert [agent.name for agent in deleted.joined.config.agents] == ["own"]


def test_the_file_wins_at_a_reload_and_gives_the_agent_back(tmp_path: Path) -> None:
    found = source(tmp_path)
    used(found, b'{"socket":"/new.sock"}')
    source(tmp_path, agents='[[agents]]\nname = "new"\nsocket = "/of-the-file.sock"\n')
    events = Events()
    joined = found.load(events=events)
    assert joined is not None
    found.use(joined)
    assert [agent.socket for agent in found.config.agents] == ["/of-the-file.sock"]
    assert found.added == frozenset()
    assert [event for _, event, _ in events.seen] == ["an agent of the API is not used"]
    with pytest.raises(Conflict) as refused:
        found.put("new", b'{"socket":"/new.sock"}')
    assert refused.value.code == "agent_in_config"
    source(tmp_path)
    joined = found.load(events=Events())
    assert joined is not None
    assert joined.added == {"new"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"socket":1}', b'"x"', b"[" * 10_000])
def test_a_body_that_is_no_agent_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        source(tmp_path).put("new", body)
    assert refused.value.code == "agent_invalid"


def test_what_cannot_be_deleted_or_kept(tmp_path: Path) -> None:
    found = source(tmp_path, agents=OWN)
    with pytest.raises(Conflict, match="Remove it there"):
        found.delete("own")
    with pytest.raises(NotFound):
        found.delete("none")
    without = source(tmp_path, admin=False)
    with pytest.raises(Conflict) as refused:
        without.put("new", b'{"socket":"/n.sock"}')
    assert refused.value.code == "agents_not_stored"
    with pytest.raises(Conflict):
        without.delete("new")
