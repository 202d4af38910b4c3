"""The config that `modelplex init` writes, as text. A key stands in it as a reference to its
variable. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modelplex.first_config.found import FoundAgent, FoundProvider
from modelplex.imports.toml_text import table_text

HEAD: Final = """\
# Written by `modelplex init`. All settings: docs/reference/config.md, and in short: modelplex --help
# Without [server] it serves http://127.0.0.1:11435. For agents without a network add a socket:
#   [server]
#   socket = "./modelplex.socket"
"""


def config_text(
    providers: Sequence[FoundProvider], *, fallback: str, agents: Sequence[FoundAgent] = ()
) -> str:
    """`fallback` is the target of the alias `"*"`, "" for none; `agents` are named beside it."""
    parts = [HEAD, *(table_text("[[providers]]", _members(each)) for each in providers)]
    if fallback:
        parts.append(f"{_comment(agents)}{table_text('[aliases]', {'*': fallback})}")
    return "\n".join(parts)


def _members(provider: FoundProvider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "type": provider.name,
        "api_key": f"${{{provider.variable}}}" if provider.variable else None,
        "base_url": provider.base_url or None,
    }


def _comment(agents: Sequence[FoundAgent]) -> str:
    own = "".join(f"#   {each.title}: {each.model}\n" for each in agents)
    return "# Every name that no provider serves" + (
        f", such as what agents request by themselves:\n{own}" if own else ".\n"
    )
