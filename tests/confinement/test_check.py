"""What `modelplex check --confine` tries, and what it says."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from modelplex.confinement import system_calls
from modelplex.confinement.check import ATTEMPTS, ConfinementTrial, attempts
from modelplex.confinement.confine import UNCONFINED, ConfinementError
from tests.processes import run


def test_a_process_that_is_not_confined_is_found_out() -> None:
    status, found = attempts(lambda: UNCONFINED)
    assert status["system_calls"] is False
    by_name = {each.what: each for each in found}
    for what in ("read a file outside", "start a program", "start a process", "make a Unix socket"):
        assert by_name[what] == ConfinementTrial(
            what, by_name[what].needs, failed=False, outcome="it succeeded"
        )


def test_a_fault_of_confining_is_raised_here() -> None:
    def fail() -> None:
        raise ConfinementError("no such kernel")

    with pytest.raises(ConfinementError, match="no such kernel"):
        attempts(fail)  # type: ignore[arg-type]


def test_the_command_shows_each_attempt(tmp_path: Path) -> None:
    if system_calls.landlock_version() < 6:
        pytest.skip("this kernel has no Landlock with rules for signals (Linux 6.12)")
    config = tmp_path / "modelplex.toml"
    config.write_text(f'[server]\nstate_folder = "{tmp_path}/state"\n[[providers]]\ntype = "demo"\n')
    done = run("check", "--config", str(config), "--confine", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "confined: whole\n" in done.stdout
    for what, *_ in ATTEMPTS:
        assert f"  refused   {what}: " in done.stdout
    assert "POSSIBLE" not in done.stdout
    assert errno.errorcode[errno.EPERM] not in done.stdout


def test_with_json_the_attempts_are_a_member(tmp_path: Path) -> None:
    config = tmp_path / "modelplex.toml"
    config.write_text('[server]\nconfine = "off"\n[[providers]]\ntype = "demo"\n')
    done = run("check", "--config", str(config), "--confine", "--json", folder=tmp_path)
    document = json.loads(done.stdout)
    assert document["confine"]["confined"] == "off"
    assert [each["what"] for each in document["confine"]["attempts"]] == [what for what, *_ in ATTEMPTS]
    assert not document["confine"]["attempts"][0]["refused"]


def test_a_config_that_turns_it_off_fails_nothing_and_says_so(tmp_path: Path) -> None:
    config = tmp_path / "modelplex.toml"
    config.write_text('[server]\nconfine = "off"\n[[providers]]\ntype = "demo"\n')
    done = run("check", "--config", str(config), "--confine", folder=tmp_path)
    assert "confined: off\n" in done.stdout
    assert "  POSSIBLE  start a program: it succeeded\n" in done.stdout
