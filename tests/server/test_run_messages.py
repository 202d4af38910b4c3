from __future__ import annotations

import stat
from pathlib import Path

from modelplex.config.run_sockets import run_sockets
from modelplex.server.run_messages import attach_path


def test_each_config_and_agent_has_its_own_path(short: Path) -> None:
    environ = {"XDG_STATE_HOME": str(short)}
    paths = [attach_path("/a.toml", environ=environ), attach_path("/b.toml", environ=environ)]
    paths += [attach_path("/a.toml", environ=environ, agent="x")]
    assert len(set(paths)) == 3
    assert attach_path("/a.toml", environ=environ) == paths[0]
    assert paths[0] is not None
    assert stat.S_IMODE(Path(paths[0]).parent.stat().st_mode) == 0o700
    Path(paths[0]).touch()
    assert run_sockets(environ) == []


def test_there_is_none_without_a_config_or_room(tmp_path: Path) -> None:
    assert attach_path(None, environ={"XDG_STATE_HOME": str(tmp_path)}) is None
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    assert attach_path("/a.toml", environ={"XDG_STATE_HOME": str(deep)}) is None
