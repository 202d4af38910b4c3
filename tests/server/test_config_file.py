"""The config file of a running gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from modelplex.config import load
from modelplex.server.config_file import ConfigFile

TEXT = '[server]\nsocket = "/one.sock"\nworkers = 2\n[[providers]]\ntype = "demo"\n'


class Events:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.seen.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.seen.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.seen.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.seen.append(("error", event, fields))


def written(folder: Path, text: str = TEXT) -> str:
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)


def test_a_change_is_seen_once_and_a_file_that_is_gone_for_a_moment_is_none(tmp_path: Path) -> None:
    path = Path(written(tmp_path))
    file = ConfigFile(str(path))
    assert not file.has_changed()
    path.write_text(TEXT + "# more\n")
    assert file.has_changed()
    assert not file.has_changed()
    path.unlink()
    assert not file.has_changed()
    path.write_text(TEXT)
    assert file.has_changed()


def test_a_loaded_config_keeps_the_listeners_and_says_that_they_need_a_restart(tmp_path: Path) -> None:
    path, events = written(tmp_path), Events()
    running = load(path, environ=os.environ)
    written(tmp_path, TEXT.replace("/one", "/two").replace("= 2", "= 3") + '[aliases]\nx = ["demo"]\n')
    config = ConfigFile(path).load(running, events=events)
    assert config is not None
    assert (config.server.socket, config.server.workers) == (("/one.sock",), 2)
    assert config.aliases == {"x": ("demo",)}
    assert [(level, event) for level, event, _ in events.seen] == [
        ("warning", "some settings need a restart")
    ]


def test_each_loaded_config_is_adapted(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = ConfigFile(path, adapt=lambda config: msgspec.structs.replace(config, aliases={"y": ("demo",)}))
    config = file.load(load(path, environ=os.environ), events=Events())
    assert config is not None
    assert config.aliases == {"y": ("demo",)}


def test_an_invalid_config_and_a_missing_file_are_reported(tmp_path: Path) -> None:
    path, events = written(tmp_path), Events()
    running = load(path, environ=os.environ)
    written(tmp_path, "[nonsense]\n")
    assert ConfigFile(path).load(running, events=events) is None
    assert ConfigFile(None).load(running, events=events) is None
    assert not ConfigFile(None).has_changed()
    (_, refused, fields), (_, without, _) = events.seen
    assert refused == "reload refused, the old config stays"
    assert "nonsense" in fields["faults"][0]
    assert without == "reload refused"
