"""Whether a caller may ask a server for one thing: a decision with its rule and its reason, and nothing done about it.

PURE. Above it stand the hub, which acts on decisions and records them, and the catalogue, which hides by the same globs what a call would be denied.
Below it the caller and the words. It reads the message's body alone: headers and what a client says of itself decide nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from modelplex.caller import Caller
from modelplex.mcp.names import SEPARATOR, exposed
from modelplex.mcp.words import Json

Verdict = Literal["allow", "deny"]
Pinned = Literal["approved", "pending", "changed"]

FEATURES: Final[Mapping[str, str]] = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
"""What a server may ask of a client, by the word that `allow` has for it; roots are the host's own."""

UNTRUSTED: Final = "untrusted"
EGRESS: Final = "egress"
"""Tags of a tool: it reads what strangers wrote; it sends to where strangers read. After the first, the second is denied."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`rule` names what decided, for the record: "default", "server_tools", "agent_tools", "pin", "taint", "scheme", "unlisted", "server_asks".

    `hidden` says that the caller may not know that the thing exists, so that it is answered as an unknown name (-32602). A denial that is not hidden
    is answered as a tool result with `isError` and the reason.
    """

    verdict: Verdict
    rule: str
    reason: str = ""
    hidden: bool = False

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


ALLOWED: Final = Decision(verdict="allow", rule="default")


def permitted(names: str | Sequence[str], globs: Sequence[str]) -> bool:
    """Whether globs allow a thing of this name, or of these names for the one thing: "!" denies and wins; without any that allow, the rest is allowed."""
    said = (names,) if isinstance(names, str) else names
    denials = [glob[1:] for glob in globs if glob.startswith("!")]
    if any(fnmatchcase(name, glob) for glob in denials for name in said):
        return False
    allowances = [glob for glob in globs if not glob.startswith("!")]
    return not allowances or any(fnmatchcase(name, glob) for glob in allowances for name in said)


def whole_server(server: str, globs: Sequence[str]) -> bool:
    """Whether a caller's globs reach all of a server, and so what has no tool's name: its resources, its instructions. `git__*` does, `git__status` does not."""
    return permitted(server + SEPARATOR, globs)


def any_of_server(server: str, globs: Sequence[str]) -> bool:
    """Whether a caller's globs can reach anything of a server at all; of one that they cannot, not even the name is told."""
    allowances = [glob for glob in globs if not glob.startswith("!")]
    denied = any(fnmatchcase(server + SEPARATOR, glob[1:]) for glob in globs if glob.startswith("!"))
    return not denied and (
        not allowances or any(fnmatchcase(server, glob.partition(SEPARATOR)[0]) for glob in allowances)
    )


def decide(
    caller: Caller,
    *,
    server: str,
    method: str,
    name: str,
    globs: Sequence[str] = (),
    shown: str | None = None,
    pinned: Pinned = "approved",
    locked: bool = False,
    listed: bool = True,
    tags: Collection[str] = (),
    tainted: bool = False,
) -> Decision:
    """Whether this caller may have `method` done with `name` (a tool's or prompt's own name, a resource's URI) at `server`.

    `globs` are the server's own `tools`. `shown` is the name under which the caller knows it, where that is not `server__name`. `locked` and `pinned`
    come from the pins. `listed` says of a URI that the server lists it or a template for it. `tags` are the tool's, `tainted` says that this caller
    has read what strangers wrote.
    """
    if method.startswith("resources/"):
        return _resource(caller, server=server, uri=name, listed=listed)
    if method in ("tools/call", "tools/list") and not permitted(name, globs):
        return _hidden("server_tools", "the host does not offer this tool")
    known_as = [exposed(server, name), *([shown] if shown else [])]
    if not permitted(known_as, caller.tools):
        return _hidden("agent_tools", "this agent may not use it")
    if locked and pinned != "approved":
        what = "has changed since it was approved" if pinned == "changed" else "has not been approved"
        return Decision(
            verdict="deny",
            rule="pin",
            reason=f"{name} of {server} {what}: `modelplex mcp approve` approves it",
        )
    if tainted and EGRESS in tags:
        return Decision(
            verdict="deny", rule="taint", reason="it sends to others, after something untrusted was read"
        )
    return ALLOWED


def _resource(caller: Caller, *, server: str, uri: str, listed: bool) -> Decision:
    if not whole_server(server, caller.tools):
        return _hidden("agent_tools", "this agent may not read it")
    if not listed:
        web = (
            urlsplit(uri).scheme.lower() in ("http", "https")
            if uri.isprintable() and "[" not in uri
            else False
        )
        return _hidden("scheme" if web else "unlisted", "no server lists it")
    return ALLOWED


def _hidden(rule: str, reason: str) -> Decision:
    return Decision(verdict="deny", rule=rule, reason=reason, hidden=True)


def may_ask(allow: Collection[str], *, method: str, roots: Collection[str] = ()) -> Decision:
    """Whether a server may make this request of a client: `allow` and `roots` are its config's. Roots are answered by the gateway itself."""
    feature = FEATURES.get(method)
    if feature in allow or (feature == "roots" and roots):
        return ALLOWED
    return Decision(
        verdict="deny", rule="server_asks", reason=f"this server may not ask for {feature or method}"
    )


def may_be_asked(allow: Collection[str], *, claimed: Mapping[str, Any]) -> Json:
    """The capabilities that a server is told of: what its config allows it and the client claims, never more. {} by default."""
    told: Json = {}
    if "sampling" in allow and "sampling" in claimed:
        told["sampling"] = claimed["sampling"]
    if "elicitation" in allow and "elicitation" in claimed:
        told["elicitation"] = claimed["elicitation"]
    return told
