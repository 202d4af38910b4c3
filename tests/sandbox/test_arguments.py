"""The options of `modelplex run`."""

from __future__ import annotations

import pytest

from modelplex.command_options import parse
from modelplex.sandbox.arguments import FILE_VIEWS, PRESETS
from modelplex.sandbox.preset import preset_names


def test_options_are_read_up_to_the_command() -> None:
    options = [
        "--ro",
        "a",
        "--ro",
        "b",
        "--rw",
        "c",
        "--env",
        "X",
        "--env",
        "Y=1",
        "--fs",
        "ro",
        "--agent",
        "n",
    ]
    arguments = parse(["run", *options, "--netlink", "--bwrap", "--check", "--", "prog", "--ro", "theirs"])
    assert (arguments.ro, arguments.rw, arguments.env) == (["a", "b"], ["c"], ["X", "Y=1"])
    assert (arguments.fs, arguments.agent) == ("ro", "n")
    assert (arguments.netlink, arguments.bwrap, arguments.check) == (True, True, True)
    assert arguments.command_line == ["--", "prog", "--ro", "theirs"]


def test_defaults() -> None:
    arguments = parse(["run", "prog"])
    assert (arguments.ro, arguments.rw, arguments.env, arguments.fs, arguments.agent) == (
        [],
        [],
        [],
        None,
        None,
    )
    assert (arguments.netlink, arguments.bwrap, arguments.check) == (False, False, False)
    assert parse(["run", "--ro", "a", "prog"]).ro == ["a"]
    assert parse(["run", "prog"]).ro == [], "the default is not shared"


@pytest.mark.parametrize("view", [*FILE_VIEWS, "all"])
def test_a_view_of_the_files_is_one_of_three(view: str, capsys: pytest.CaptureFixture[str]) -> None:
    if view in FILE_VIEWS:
        assert parse(["run", "--fs", view, "prog"]).fs == view
        return
    with pytest.raises(SystemExit):
        parse(["run", "--fs", view, "prog"])
    assert "invalid choice: 'all'" in capsys.readouterr().err


def test_every_preset_of_the_package_is_completed() -> None:
    assert list(PRESETS) == preset_names({"HOME": "/nonexistent"})
