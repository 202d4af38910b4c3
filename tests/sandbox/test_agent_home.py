from pathlib import Path

import pytest

from modelplex.sandbox.agent_home import INSTRUCTIONS, home_folder, prepare_home, project_of
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.folders import Mount
from modelplex.sandbox.home_files import HomeFile
from modelplex.sandbox.preset import Preset, PresetFile, PresetModel, placeholders

PRESET = Preset(
    title="Mine",
    programs=("mine",),
    install="",
    docs="",
    tested="1",
    model=PresetModel(default="m"),
    environment={"MINE_HOME": "${home}/.mine"},
    keep=(".mine", ".config/mine"),
    files=(PresetFile(path=".mine/s.json", text='{"${folder}": 1}', mode="merge"),),
    instructions=(".mine/RULES", ".mine/skills"),
)


def test_what_is_kept_written_and_shown(tmp_path: Path) -> None:
    home, state = tmp_path / "home", tmp_path / "state"
    (home / ".mine").mkdir(parents=True)
    (home / "dotfiles").write_text("rules")
    (home / ".mine" / "RULES").symlink_to(home / "dotfiles")
    environ = {"XDG_STATE_HOME": str(state)}
    values = placeholders(home=str(home), folder="/w", model="m")
    made = prepare_home("mine", PRESET, values, environ=environ, has_instructions=True)
    folder = home_folder("mine", "/w", environ=environ)
    assert made.mounts == [
        Mount("rw", f"{home}/.mine", f"{folder}/.mine"),
        Mount("rw", f"{home}/.config/mine", f"{folder}/.config%2Fmine"),
        Mount("ro", f"{INSTRUCTIONS}/.mine%2FRULES", str(home / "dotfiles")),
    ]
    assert made.files == [
        HomeFile(".mine/s.json", '{"/w": 1}', "merge"),
        HomeFile(".mine/RULES", f"{INSTRUCTIONS}/.mine%2FRULES", "link"),
    ]
    assert made.environ == {"MINE_HOME": f"{home}/.mine"}
    assert sorted(path.name for path in folder.iterdir()) == [".config%2Fmine", ".mine"]
    assert folder.stat().st_mode & 0o777 == 0o700
    again = prepare_home("mine", PRESET, values, environ=environ, has_instructions=False)
    assert [step.kind for step in again.mounts] == ["rw", "rw"]
    assert [file.mode for file in again.files] == ["merge"]


def test_a_project_is_the_working_tree(tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "a" / "b"
    inner.mkdir(parents=True)
    assert project_of(str(inner)) == str(inner)
    (tmp_path / "repository" / ".git").write_text("gitdir: elsewhere")
    assert project_of(str(inner)) == str(tmp_path / "repository")


def test_two_projects_of_one_name_have_homes_of_their_own() -> None:
    environ = {"XDG_STATE_HOME": "/s"}
    one, other, odd = (home_folder("mine", path, environ=environ) for path in ("/a/p", "/b/p", "/a/ö /"))
    assert one.parent == other.parent == Path("/s/modelplex/homes/mine")
    assert one.name.startswith("p-")
    assert other.name.startswith("p-")
    assert one != other
    assert odd.name.startswith("project-")


def test_a_state_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "modelplex").write_text("a file")
    values = placeholders(home="/h", folder="/w", model="m")
    with pytest.raises(CannotRun, match=r"the agent's home cannot be kept in .*: Not a directory"):
        prepare_home(
            "mine", PRESET, values, environ={"XDG_STATE_HOME": str(tmp_path)}, has_instructions=False
        )
