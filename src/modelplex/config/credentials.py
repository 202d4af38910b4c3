"""`api_key` and `auth` of [[providers]]: where the credential of a provider is from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from modelplex.config.address import provider_url
from modelplex.config.rules import (
    PATH,
    Rule,
    build,
    list_of,
    one_of,
    parsed,
    read_fields,
    rules_of,
    seconds,
    secret,
    secret_argument,
    text,
)
from modelplex.config.secret import Secret
from modelplex.config.settings import (
    ApiKey,
    Auth,
    AwsAuth,
    CommandAuth,
    EntraAuth,
    GcpAuth,
    KeyFromCommand,
    KeyInFile,
    OidcAuth,
    ProviderConfig,
)
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode

FILE: Final = "file:"
COMMAND: Final = "command:"

_argument = secret_argument("a word of the command")


def credential(expected: str) -> Rule[ApiKey]:
    """A value, or `file:PATH`, or `command:WORDS`, split as a shell does it; no shell runs it."""
    read = secret(expected)

    def rule(node: TomlNode) -> ApiKey | Faulty:
        value = read(node)
        if value is FAULTY:
            return FAULTY
        written = value.reveal()
        if written.startswith(FILE):
            path = written.removeprefix(FILE)
            return KeyInFile(path) if path else node.reject("a path after file:", found="none")
        if written.startswith(COMMAND):
            try:
                words = shlex.split(written.removeprefix(COMMAND))
            except ValueError:
                return node.reject("a command whose quotes are closed", found="an open quote")
            if not words:
                return node.reject("a command after command:", found="none")
            return KeyFromCommand(tuple(Secret(word) for word in words))
        return value

    return rule


api_key: Final = credential("a key")


_URL: Final = parsed(provider_url, "an address that begins with https:// or http://")
_RULES: Final[dict[str, tuple[type[msgspec.Struct], dict[str, Rule[object]]]]] = {
    "command": (
        CommandAuth,
        rules_of(
            CommandAuth,
            command=list_of(_argument, "a list of words, the program first", least=1),
            ttl=seconds(),
        ),
    ),
    "oidc": (
        OidcAuth,
        rules_of(
            OidcAuth,
            token_url=_URL,
            client_id=text("the id of the client"),
            client_secret=secret("the client's secret"),
            assertion_file=PATH,
        ),
    ),
    "entra": (
        EntraAuth,
        rules_of(EntraAuth, client_secret=secret("the client's secret")),
    ),
    "gcp": (GcpAuth, rules_of(GcpAuth, credentials_file=PATH)),
    "aws": (AwsAuth, rules_of(AwsAuth)),
}
_NEEDED: Final = {"command": ("command",), "oidc": ("token_url", "client_id")}
_TYPE: Final = one_of(list(_RULES), hints={"azure": 'did you mean "entra"?', "google": 'did you mean "gcp"?'})


def auth(node: TomlNode) -> Auth | Faulty:
    """A table with `type`; its other keys depend on it."""
    if not isinstance(node.value, dict):
        node.reject('a table, as in { type = "aws" }', found="another value")
        return FAULTY
    kind = _TYPE(node.get("type")) if "type" in node.raw_table() else None
    if kind is None:
        return node.child("type").reject('"' + '", "'.join(_RULES) + '"', found="none")
    if kind is FAULTY:
        return FAULTY
    struct, rules = _RULES[kind]
    values, members = read_fields(node, {"type": _TYPE, **rules})
    values.pop("type", None)
    missing = [name for name in _NEEDED.get(kind, ()) if name not in members]
    for name in missing:
        node.child(name).reject("a value", found="none")
    has_secret, has_file = "client_secret" in members, "assertion_file" in members
    if kind == "oidc" and has_secret == has_file:
        node.reject("client_secret or assertion_file", found="both" if has_file else "neither")
        return FAULTY
    if missing or any(name not in values for name in members if name in _NEEDED.get(kind, ())):
        return FAULTY
    built = build(struct, values)
    assert isinstance(built, CommandAuth | OidcAuth | EntraAuth | GcpAuth | AwsAuth)
    return built


def default_auth(kind: Literal["aws", "gcp"]) -> Auth:
    """The credentials of a cloud as its own libraries find them."""
    return AwsAuth() if kind == "aws" else GcpAuth()


def auth_secrets(provider: ProviderConfig) -> Iterator[str]:
    """The secrets in `auth`, for masking them in the log. Words of a key command are not masked:
    most are no secrets, and would hide ordinary text. No line shows the command.
    """
    auth = provider.auth
    if isinstance(auth, OidcAuth | EntraAuth) and auth.client_secret is not None:
        yield auth.client_secret.reveal()
