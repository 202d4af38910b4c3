import json
import os
from pathlib import Path

import pytest

from modelplex.sandbox.home_files import HomeFile, merged, write_home


def test_files_are_written_replaced_kept_and_merged(tmp_path: Path) -> None:
    files = [
        HomeFile("a/b/new", "1", "replace"),
        HomeFile("old", "2", "replace"),
        HomeFile("kept", "3", "missing"),
        HomeFile("made", "4", "missing"),
        HomeFile("j.json", '{"b": 2}', "merge"),
    ]
    (tmp_path / "old").write_text("0")
    (tmp_path / "kept").write_text("0")
    (tmp_path / "j.json").write_text('{"a": 1}')
    write_home(str(tmp_path), files)
    assert [(tmp_path / file.path).read_text() for file in files[:4]] == ["1", "2", "0", "4"]
    assert json.loads((tmp_path / "j.json").read_text()) == {"a": 1, "b": 2}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".modelplex")]


@pytest.mark.parametrize("mode", ["replace", "missing", "merge"])
def test_no_link_of_the_agents_is_followed(mode: str, tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (other / "settings.json").write_text('{"secret": 1}')
    (home / "settings.json").symlink_to(other / "settings.json")
    write_home(str(home), [HomeFile("settings.json", "{}", mode)])
    assert (home / "settings.json").read_text() == "{}"
    assert not (home / "settings.json").is_symlink()
    (home / "folder").symlink_to(other)
    with pytest.raises(OSError, match=r"folder/settings\.json"):
        write_home(str(home), [HomeFile("folder/settings.json", "{}", mode)])
    assert (other / "settings.json").read_text() == '{"secret": 1}'


@pytest.mark.parametrize("mode", ["replace", "missing", "merge"])
def test_a_pipe_does_not_block(mode: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    write_home(str(tmp_path), [HomeFile("f", "{}", mode)])
    assert (tmp_path / "f").read_text() == "{}"


def test_a_link_replaces_a_link_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("of the agent")
    (tmp_path / "old").symlink_to("/nowhere")
    write_home(str(tmp_path), [HomeFile(name, "/run/x", "link") for name in ("mine", "old", "new")])
    assert (tmp_path / "mine").read_text() == "of the agent"
    assert [str((tmp_path / name).readlink()) for name in ("old", "new")] == ["/run/x", "/run/x"]


@pytest.mark.parametrize("kept", ["", "[1]", "{", "nonsense"])
def test_what_is_no_object_is_replaced(kept: str) -> None:
    assert json.loads(merged(kept, '{"a": 1}')) == {"a": 1}


def test_merging_keeps_what_the_agent_wrote() -> None:
    kept = json.dumps({"userID": "u", "projects": {"/w": {"history": [1]}, "/v": {}}})
    ours = json.dumps({"done": True, "projects": {"/w": {"trusted": True}}})
    assert json.loads(merged(kept, ours)) == {
        "userID": "u",
        "done": True,
        "projects": {"/w": {"history": [1], "trusted": True}, "/v": {}},
    }
