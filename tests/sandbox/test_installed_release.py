import json
from pathlib import Path

import pytest

from modelplex.sandbox.installed_release import installed_release, is_newer


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_of_an_npm_package(tmp_path: Path) -> None:
    real = program(tmp_path / "lib" / "node_modules" / "@o" / "agent" / "dist" / "cli.js")
    (real.parent.parent / "package.json").write_text(json.dumps({"version": "2.1.3"}))
    (tmp_path / "lib" / "package.json").write_text(json.dumps({"version": "9.9.9"}))
    link = tmp_path / "agent"
    link.symlink_to(real)
    assert installed_release(str(link)) == "2.1.3"
    (real.parent.parent / "package.json").write_text("{")
    assert installed_release(str(link)) is None


def test_of_a_python_environment(tmp_path: Path) -> None:
    real = program(tmp_path / "tools" / "aider-chat" / "bin" / "aider")
    packages = tmp_path / "tools" / "aider-chat" / "lib" / "python3.12" / "site-packages"
    (packages / "aider_chat-0.86.2.dist-info").mkdir(parents=True)
    (packages / "other-3.0.dist-info").mkdir()
    assert installed_release(str(real), package="aider-chat") == "0.86.2"
    assert installed_release(str(real)) is None


@pytest.mark.parametrize("path", ["share/claude/versions/2.1.330", "Cellar/claude/2.1.330/bin/claude"])
def test_of_a_folder_or_file_named_by_the_release(path: str, tmp_path: Path) -> None:
    assert installed_release(str(program(tmp_path / path))) == "2.1.330"


def test_of_a_program_that_does_not_say(tmp_path: Path) -> None:
    assert installed_release(str(program(tmp_path / "bin" / "goose"))) is None


@pytest.mark.parametrize(
    ("release", "tested", "newer"),
    [
        ("2.1.331", "2.1.330", True),
        ("2.2", "2.1.330", True),
        ("2.1.330", "2.1.330", False),
        ("2.1.330-beta.1", "2.1.330", False),
        ("0.9.10", "0.10.0", False),
        ("unknown", "1.0", False),
    ],
)
def test_a_newer_release(release: str, tested: str, newer: bool) -> None:
    assert is_newer(release, tested) is newer
