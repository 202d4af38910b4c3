"""The file of the API's agents."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from modelplex.config import Config, parse, provider_types
from modelplex.config.api_agents import read_agent
from modelplex.server.stored_agents import StoredAgents, StoredAgentsError, load_stored
from tests.server.test_config_file import Events

MEMBERS = {"socket": "/run/a.sock", "token": "a-secret-token"}


def config(folder: Path, *, admin: str = "admin.sock") -> Config:
    admin_socket = f'admin_socket = "{folder / admin}"' if admin else ""
    text = f'[server]\nstate_folder = "{folder / "state"}"\n{admin_socket}\n[[providers]]\ntype = "demo"\n'
    return parse(text.encode(), file="config.toml", environ={}, types=provider_types())


def stored(folder: Path, **more: str) -> StoredAgents:
    return load_stored(config(folder, **more), environ={})


def test_agents_outlive_the_process_in_a_file_of_this_user(tmp_path: Path) -> None:
    first = stored(tmp_path).with_agent(read_agent("a", MEMBERS), MEMBERS)
    first.save()
    (path,) = (tmp_path / "state").iterdir()
    assert path == first.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = stored(tmp_path)
    assert again.agents == {"a": read_agent("a", MEMBERS)}
    joined = again.join(config(tmp_path))
    assert [agent.name for agent in joined.config.agents] == ["a"]
    again.without("a").save()
    assert stored(tmp_path).members == {}
    assert stored(tmp_path, admin="other.sock").path != path


def test_without_an_admin_socket_there_is_no_file(tmp_path: Path) -> None:
    assert stored(tmp_path, admin="").path is None


def test_an_agent_that_cannot_be_read_or_used_stays_in_the_file_and_is_logged(tmp_path: Path) -> None:
    before = stored(tmp_path).with_agent(read_agent("a", MEMBERS), MEMBERS)
    before.save()
    assert before.path is not None
    text = before.path.read_text()
    before.path.write_text(text.replace('"agents":{', '"agents":{"odd":{"later":1},'))
    found, events = stored(tmp_path), Events()
    taken = config(tmp_path)
    joined = found.join(taken)
    found.report(joined, events)
    assert [(event, fields["agent"]) for _, event, fields in events.seen] == [
        ("an agent of the API is not used", "odd")
    ]
    assert "later" in events.seen[0][2]["reason"]
    found.without("a").save()
    assert set(stored(tmp_path).members) == {"odd"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "cannot be read"),
        (b'{"version":2,"admin_socket":"","agents":{}}', "a later version"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path, content: bytes, reason: str) -> None:
    path = stored(tmp_path).path
    assert path is not None
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoredAgentsError, match=reason) as refused:
        stored(tmp_path)
    assert str(path) in refused.value.sentence


def test_a_link_in_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    found = stored(tmp_path).with_agent(read_agent("a", MEMBERS), MEMBERS)
    assert found.path is not None
    found.path.parent.mkdir()
    target = tmp_path / "target"
    found.path.with_name(f".{found.path.name}.new").symlink_to(target)
    found.save()
    assert not target.exists()
    assert found.path.is_file()
