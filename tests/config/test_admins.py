"""[[server.admins]]: what is accepted, and what is refused in which words."""

from __future__ import annotations

import pytest

from modelplex.config import Config, ConfigError, Secret, parse, provider_types, redacted
from modelplex.config.settings import KeyFromCommand, KeyInFile

TOKEN = "a-token-of-an-admin"


def read(text: str, **environ: str) -> Config:
    whole = f'{text}\n[[providers]]\ntype = "demo"\n'
    return parse(whole.encode(), file="config.toml", environ=environ, types=provider_types())


def admin(**members: str) -> str:
    rows = {"name": '"ops"', "token": f'"{TOKEN}"', "may": '["read"]', **members}
    return "[[server.admins]]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items() if value)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ('"${TOKEN}"', Secret(TOKEN)),
        ('"file:/run/secrets/ops"', KeyInFile("/run/secrets/ops")),
        ('"file:${CREDENTIALS_DIRECTORY}/ops"', KeyInFile("/run/credentials/modelplex.service/ops")),
        ('"command:pass show ops"', KeyFromCommand((Secret("pass"), Secret("show"), Secret("ops")))),
    ],
)
def test_a_token_is_given_as_an_api_key_is(written: str, read_as: object) -> None:
    environ = {"TOKEN": TOKEN, "CREDENTIALS_DIRECTORY": "/run/credentials/modelplex.service"}
    (found,) = read(admin(token=written, may='["metrics", "stop"]'), **environ).server.admins
    assert (found.name, found.token, found.may) == ("ops", read_as, ("metrics", "stop"))


def test_users_of_the_admin_socket_need_no_token() -> None:
    config = read('[server]\nadmin_socket = "a.sock"\n' + admin(token="", uid="[1000, 0]"))
    assert [(each.token, each.uid) for each in config.server.admins] == [(None, (1000, 0))]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"may": ""}, "expected a value"),
        ({"may": "[]"}, 'expected a list of "metrics", "read", "stop" and "change"'),
        ({"may": '["write"]'}, 'did you mean "change"?'),
        ({"may": '["all"]'}, "name each of them"),
        ({"may": '["read", "read"]'}, "one of them twice"),
        ({"token": '"short"'}, "expected a token of at least 16 characters"),
        ({"token": ""}, "expected a token, users of the admin socket (uid), or both"),
        ({"token": '"file:"'}, "expected a path after file:"),
        ({"name": '"a b"'}, "expected a name of letters"),
        ({"name": ""}, "expected a value"),
        ({"uid": "[1]"}, "expected [server] admin_socket beside it"),
        ({"rights": "1"}, "expected a known key"),
    ],
)
def test_what_is_wrong_is_named_without_the_token(members: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(admin(**members))
    assert told in refused.value.sentence
    assert TOKEN not in refused.value.sentence


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (admin() + admin(name='"two"'), "it is that of the admin 'ops'"),
        (admin() + admin(token='"another-token-of-ops"'), '"ops" again'),
        (f'[server]\ninternal_token = "{TOKEN}"\n' + admin(), "it is that of [server] internal_token"),
        (admin() + f'[[agents]]\nname = "a"\ntoken = "{TOKEN}"\n', "it is that of the admin 'ops'"),
        (
            '[server]\nadmin_socket = "a.sock"\n'
            + admin(uid="[7]")
            + admin(name='"two"', token="", uid="[7]"),
            "it is that of the admin 'ops'",
        ),
    ],
)
def test_a_token_a_user_and_a_name_belong_to_one(config: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(config)
    assert told in refused.value.sentence


def test_the_shown_config_has_no_token() -> None:
    assert TOKEN not in repr(read(admin()))
    assert TOKEN not in str(redacted(read(admin())))
