"""The environment of a sandboxed program: variables of the host that pass, and those that point
clients at the gateway. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from modelplex.sandbox.folders import RUN, SOCKET
from modelplex.sandbox.programs import VARIABLES

PASSED: Final = (
    *"PATH HOME USER LOGNAME SHELL PWD LANG LANGUAGE TZ TERM COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION COLUMNS LINES NO_COLOR"
    " FORCE_COLOR CLICOLOR EDITOR VISUAL PAGER CI VIRTUAL_ENV CONDA_PREFIX"
    " GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL".split(),
    *VARIABLES,
)
"""And LC_*. Nothing that may hold a key, a proxy or the path of a socket."""

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
    # Requests to other hosts than the gateway would only fail, some of them slowly.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "COPILOT_OFFLINE": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "PI_OFFLINE": "1",
}
"""What common clients read. A test checks each of them."""

PYTHON: Final = f"{RUN}/python"
NODE: Final = f"{RUN}/node/client.mjs"


def environment(
    host: Mapping[str, str], *, named: Sequence[str] = (), has_python: bool, has_node: bool
) -> dict[str, str]:
    """`named` are values of --env, NAME or NAME=VALUE, which override everything; a NAME that the
    host lacks is left out. `has_python` and `has_node`: whether the files exist that make `unix:`
    URLs work there.
    """
    made = {name: value for name, value in host.items() if name in PASSED or name.startswith("LC_")}
    made.update(POINTED, TMPDIR="/tmp")  # noqa: S108 - the sandbox's own
    explicit: dict[str, str] = {}
    for variable in named:
        name, has_value, value = variable.partition("=")
        if has_value:
            explicit[name] = value
        elif name in host:
            explicit[name] = host[name]
    made.update(explicit)
    if has_python:
        made["PYTHONPATH"] = f"{PYTHON}:{explicit['PYTHONPATH']}" if explicit.get("PYTHONPATH") else PYTHON
    if has_node and "NODE_OPTIONS" not in explicit:
        made["NODE_OPTIONS"] = f"--import={NODE}"
    return made
