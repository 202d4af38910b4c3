"""References and secrets of imported values."""

from __future__ import annotations

import pytest

from modelplex.imports.notes import Notes

SECRET = "sk-abcdefgh1234567890abcd"


def notes() -> Notes:
    return Notes(home="/home/me", folder="/work/$project")


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("plain", "plain"),
        ("a$b", "a$$b"),
        (True, "true"),
        (3, "3"),
        ("${TOKEN}", "${TOKEN}"),
        ("${env:TOKEN}/x", "${TOKEN}/x"),
        ("os.environ/TOKEN", "${TOKEN}"),
        ("${TOKEN:-none}", "${TOKEN}"),
        ("${input:gh-token}", "${GH_TOKEN}"),
        ("${workspaceFolder}/a", "/work/$$project/a"),
        ("${userHome}", "/home/me"),
        ("$x ${command:pick one}", "$$x $${command:pick one}"),
    ],
)
def test_references_become_ours(written: object, ours: str) -> None:
    assert notes().text(written, where="s.env.X") == ours


def test_a_secret_becomes_a_variable_and_is_named_without_its_value() -> None:
    found = notes()
    assert found.text(SECRET, where="s.args", variable="s_key") == "${S_KEY}"
    assert found.text("short", where="s.env.API_TOKEN", name="API_TOKEN") == "${API_TOKEN}"
    assert found.text(
        "Bearer other", where="s.headers.Authorization", name="Authorization", variable="s_auth"
    ) == ("Bearer ${S_AUTH}")
    assert found.variables == ["S_KEY", "API_TOKEN", "S_AUTH"]
    assert found.lines[0] == "s.args: a secret stood here, and is $S_KEY now"
    assert not any(value in line for line in found.lines for value in (SECRET, "short", "other"))


def test_two_secrets_of_one_name_are_two_variables() -> None:
    found = notes()
    values = [found.text(value, where="w", name="KEY") for value in ("one", "two", "one")]
    assert values == ["${KEY}", "${KEY_2}", "${KEY}"]
