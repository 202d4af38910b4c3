"""[[server.admins]]: who may use /_internal/, and for what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from modelplex.config.credentials import credential
from modelplex.config.rules import Rule, build, integer, list_of, matching, one_of, read_fields, rules_of
from modelplex.config.secret import Secret
from modelplex.config.settings import AdminConfig
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode

MIN_TOKEN: Final = 16
"""Characters. A shorter one can be guessed by whoever reaches the listener."""
MAX_UID: Final = 2**32 - 2
"""The number after it means "none" to the kernel."""
UIDS: Final[Rule[tuple[int, ...]]] = list_of(
    integer("a user's number", least=0, most=MAX_UID), "a list of users' numbers, such as [1000]", unique=True
)
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
RIGHTS: Final = ("metrics", "read", "stop", "change")

ADMIN: Final = rules_of(
    AdminConfig,
    name=matching(NAME.pattern, "a name of letters, digits, dots, dashes and underscores"),
    token=credential("a token"),
    uid=UIDS,
    may=list_of(
        one_of(
            RIGHTS,
            hints={
                "all": "name each of them",
                "write": 'did you mean "change"?',
                "admin": "name each of them",
            },
        ),
        'a list of "metrics", "read", "stop" and "change"',
        least=1,
        unique=True,
    ),
)


def admin(node: TomlNode) -> AdminConfig | Faulty:
    values, members = read_fields(node, ADMIN)
    if not isinstance(node.value, dict):
        return FAULTY
    for key in ("name", "may"):
        if key not in members:
            node.child(key).reject("a value", found="none")
    if not {"token", "uid"} & members.keys():
        node.reject("a token, users of the admin socket (uid), or both", found="neither")
    token = values.get("token")
    if isinstance(token, Secret) and len(token.reveal()) < MIN_TOKEN:
        members["token"].reject(f"a token of at least {MIN_TOKEN} characters", found="a shorter one")
    return build(AdminConfig, {"name": "", "may": (), **values})


def check_admins(
    node: TomlNode, admins: Sequence[AdminConfig], *, internal_token: Secret | None, admin_socket: bool
) -> None:
    """Reject a token or a user that two have, and users without an admin socket. `node` is the
    list.
    """
    owners: dict[object, str] = {internal_token: "[server] internal_token"}
    places = {element.raw_string("name"): element for element in node.elements()} if admins else {}
    for each in admins:
        place = places.get(each.name, node)
        if each.uid and not admin_socket:
            place.child("uid").reject("[server] admin_socket beside it", found="none")
        for key, used in (("token", each.token), *(("uid", uid) for uid in each.uid)):
            if used is not None and used in owners:
                hint = f"it is that of {owners[used]}"
                place.child(key).reject(f"a {key} of its own", found="one that is used twice", hint=hint)
            owners.setdefault(used, f"the admin {each.name!r}")


def admin_tokens(admins: Sequence[AdminConfig]) -> Iterator[tuple[Secret, str]]:
    """The tokens that the config itself has, each with its owner as text."""
    for each in admins:
        if isinstance(each.token, Secret):
            yield each.token, f"the admin {each.name!r}"
