"""The table [shared]: the engine that counts the limits of agents over several gateways."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from modelplex.config.rules import build, number, read_fields, rules_of, secret
from modelplex.config.secret import Secret
from modelplex.config.settings import SharedConfig
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode

LEAST_LEASE: Final = 1.0
MOST_LEASE: Final = 600.0
SCHEMES: Final = ("redis", "rediss")
_ADDRESS: Final = "the address of Redis or Valkey, such as redis://limits.example.com:6379"
_TEXT: Final = secret(_ADDRESS)


def engine_url(node: TomlNode) -> Secret | Faulty:
    written = _TEXT(node)
    if written is FAULTY:
        return FAULTY
    try:
        parts = urlsplit(written.reveal())
        valid = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    hint = "it begins with redis:// or rediss:// and a host; its port is a number"
    return written if valid else node.reject(_ADDRESS, found="another string", hint=hint)


SHARED: Final = rules_of(
    SharedConfig,
    url=engine_url,
    lease=number(
        f"seconds, a number from {LEAST_LEASE:g} to {MOST_LEASE:g}",
        lambda value: LEAST_LEASE <= value <= MOST_LEASE,
    ),
)


def read_shared(node: TomlNode) -> SharedConfig | Faulty:
    values, members = read_fields(node, SHARED)
    if members and "url" not in members:
        node.child("url").reject("the address of Redis or Valkey", found="none")
    return build(SharedConfig, values)


def shared_secrets(config: SharedConfig) -> list[str]:
    """The address, and the password in it."""
    if config.url is None:
        return []
    password = urlsplit(config.url.reveal()).password
    return [config.url.reveal()] if not password else [config.url.reveal(), password, unquote(password)]
