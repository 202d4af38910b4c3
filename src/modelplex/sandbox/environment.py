"""The environment of a sandboxed program: what of the host's passes, and what points clients at the
gateway. Pure; the host's is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from modelplex.sandbox.folders import RUN, SOCKET

PASSED: Final = (
    "PATH HOME USER LOGNAME SHELL PWD LANG LANGUAGE TZ TERM COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION COLUMNS LINES NO_COLOR"
    " FORCE_COLOR CLICOLOR EDITOR VISUAL PAGER CI VIRTUAL_ENV CONDA_PREFIX"
).split()
"""By name. Also every LC_*. Nothing that may hold a key, a proxy or the path of a socket."""

BASE: Final = "http://127.0.0.1:11435"
POINTED: Final[Mapping[str, str]] = {
    "MODELPLEX_BASE_URL": BASE,
    "MODELPLEX_SOCKET": SOCKET,
    "MODELPLEX_KEY": "unused",
    "OPENAI_BASE_URL": f"{BASE}/models/v1",
    "OPENAI_API_BASE": f"{BASE}/models/v1",
    "OPENAI_API_KEY": "unused",
    "ANTHROPIC_BASE_URL": BASE,
    "ANTHROPIC_API_KEY": "unused",
    "GOOGLE_GEMINI_BASE_URL": BASE,
    "GEMINI_API_KEY": "unused",
    "OLLAMA_HOST": BASE,
    "COPILOT_PROVIDER_BASE_URL": f"{BASE}/models/v1",
    "COPILOT_PROVIDER_API_KEY": "unused",
    # What these ask of others than the gateway would only fail, some of it slowly.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "COPILOT_OFFLINE": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "PI_OFFLINE": "1",
}
"""What the common clients read; every one of them has a test that it arrives."""

PYTHON: Final = f"{RUN}/python"
NODE: Final = f"{RUN}/node/client.mjs"


def environment(
    host: Mapping[str, str], *, named: Sequence[str] = (), has_python: bool, has_node: bool
) -> dict[str, str]:
    """`named` are the words behind --env, NAME or NAME=VALUE, which go before everything; a NAME
    that the host lacks is left out.

    `has_python` and `has_node`: whether the files that teach those two `unix:` addresses are there.
    """
    made = {name: value for name, value in host.items() if name in PASSED or name.startswith("LC_")}
    made.update(POINTED, TMPDIR="/tmp")  # noqa: S108 - a folder of the sandbox's own
    asked: dict[str, str] = {}
    for word in named:
        name, has_value, value = word.partition("=")
        if has_value:
            asked[name] = value
        elif name in host:
            asked[name] = host[name]
    made.update(asked)
    if has_python:
        made["PYTHONPATH"] = f"{PYTHON}:{asked['PYTHONPATH']}" if asked.get("PYTHONPATH") else PYTHON
    if has_node and "NODE_OPTIONS" not in asked:
        made["NODE_OPTIONS"] = f"--import={NODE}"
    return made
