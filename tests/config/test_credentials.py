"""`api_key` and `auth` of a provider."""

from __future__ import annotations

import pytest

from modelplex.config import Secret
from modelplex.config.settings import (
    AwsAuth,
    CommandAuth,
    EntraAuth,
    GcpAuth,
    KeyFromCommand,
    KeyInFile,
    OidcAuth,
)
from tests.config.configs import fault, read

HEAD = '[[providers]]\ntype = "openai"\n'


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ('"sk-1"', Secret("sk-1")),
        ('"file:/run/secrets/x"', KeyInFile("/run/secrets/x")),
        (
            "\"command:op read 'op://a b/c'\"",
            KeyFromCommand((Secret("op"), Secret("read"), Secret("op://a b/c"))),
        ),
    ],
)
def test_a_key_may_be_elsewhere(written: str, key: object) -> None:
    assert read(f"{HEAD}api_key = {written}\n").providers[0].api_key == (key,)


def test_several_places_are_used_in_turn() -> None:
    keys = read(f'{HEAD}api_key = ["file:/a", "sk-2"]\n').providers[0].api_key
    assert keys == (KeyInFile("/a"), Secret("sk-2"))


@pytest.mark.parametrize(
    ("written", "auth"),
    [
        ('{ type = "aws" }', AwsAuth()),
        (
            '{ type = "aws", profile = "p", role = "r", external_id = "e" }',
            AwsAuth(profile="p", role="r", external_id="e"),
        ),
        ('{ type = "gcp", credentials_file = "/c.json" }', GcpAuth(credentials_file="/c.json")),
        ('{ type = "entra", tenant = "t" }', EntraAuth(tenant="t")),
        (
            '{ type = "command", command = ["op", "read"], ttl = 60 }',
            CommandAuth(command=(Secret("op"), Secret("read")), ttl=60.0),
        ),
        (
            '{ type = "oidc", token_url = "https://i/token", client_id = "c", client_secret = "s" }',
            OidcAuth(token_url="https://i/token", client_id="c", client_secret=Secret("s")),
        ),
    ],
)
def test_auth_has_its_types(written: str, auth: object) -> None:
    assert read(f'{HEAD}region = "r"\nauth = {written}\n').providers[0].auth == auth


@pytest.mark.parametrize(
    ("written", "report"),
    [
        ('api_key = "file:"', "a path after file:"),
        ('api_key = "command: "', "a command after command:"),
        ('api_key = "command:op \'"', "quotes are closed"),
        ('auth = "aws"', 'as in { type = "aws" }'),
        ("auth = {}", '"command", "oidc", "entra", "gcp", "aws"'),
        ('auth = { type = "azure" }', 'did you mean "entra"?'),
        ('region = "r"\nauth = { type = "aws", profil = "x" }', 'did you mean "profile"?'),
        ('auth = { type = "aws" }', "the region of AWS"),
        ('auth = { type = "command" }', "expected a value"),
        (
            'auth = { type = "oidc", token_url = "https://i", client_id = "c" }',
            "client_secret or assertion_file",
        ),
        ('auth = { type = "gcp" }\napi_key = "k"', "api_key or auth"),
    ],
)
def test_a_fault_names_what_would_be_right(written: str, report: str) -> None:
    assert report in fault(f"{HEAD}{written}\n")


def test_no_form_of_the_settings_shows_a_secret() -> None:
    text = (
        f'{HEAD}auth = {{ type = "oidc", token_url = "https://i", client_id = "c", client_secret = "sk-hidden" }}\n'
        f'{HEAD}name = "b"\napi_key = "command:helper sk-hidden"\n'
    )
    assert "sk-hidden" not in repr(read(text))
