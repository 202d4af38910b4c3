"""The route table: which operation a path asks for, and in which dialect its caller speaks. Pure.

Above it stands the app. What is not here is a 404, in the dialect that the path begins like:
nothing is passed through because somebody asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import Endpoint

BASES = ("/models/v1/", "/v1/")
"""The OpenAI-compatible interface, and its alias for clients that cannot be told a longer base URL.
"""

TOOLS = "/mcp/"
"""Below it stand the tools, whose own paths mcp/front knows."""


class Operation(msgspec.Struct, frozen=True):
    """`dialect` is the caller's. `form` may come as multipart/form-data. `model` and `stream` are
    set where the path says them, and not the body.
    """

    endpoint: Endpoint
    dialect: str
    form: bool = False
    model: str | None = None
    stream: bool | None = None


def _of(endpoint: Endpoint, dialect: str = "openai_json", *, form: bool = False) -> Operation:
    return Operation(endpoint, dialect, form)


OPERATIONS: Mapping[str, Operation] = {
    "chat/completions": _of("chat/completions", "openai_chat"),
    "completions": _of("completions", "openai_completions"),
    "embeddings": _of("embeddings", "openai_embeddings"),
    "responses": _of("responses", "openai_responses"),
    "responses/input_tokens": _of("responses/input_tokens", "openai_count"),
    "messages": _of("messages", "anthropic_messages"),
    "messages/count_tokens": _of("messages/count_tokens", "anthropic_count"),
    "moderations": _of("moderations"),
    "rerank": _of("rerank"),
    "images/generations": _of("images/generations"),
    "images/edits": _of("images/edits", form=True),
    "images/variations": _of("images/variations", form=True),
    "audio/speech": _of("audio/speech"),
    "audio/transcriptions": _of("audio/transcriptions", form=True),
    "audio/translations": _of("audio/translations", form=True),
}
"""What goes to a provider, by the path below a base."""


AT_THE_ROOT = (
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "responses/input_tokens",
    "messages",
    "messages/count_tokens",
)
"""What is served at the root as well, with the models: for clients that were given the address
without a path.
"""


OLLAMA_BASES = ("/api/", "/models/api/")
"""Ollama's own interface, at the root, and beside the OpenAI-compatible one for clients that cut
"/v1" off their base URL.
"""
OLLAMA_OPERATIONS: Mapping[str, Operation] = {
    "chat": _of("api/chat", "ollama"),
    "generate": _of("api/generate", "ollama_generate"),
    "embed": _of("api/embed", "ollama_embed"),
}


GEMINI_BASES = ("/v1beta/", "/models/v1beta/", "/v1alpha/", "/v1/")
"""Gemini's interface, by the versions that its clients put into the path; the last one they share
with OpenAI's.
"""
GEMINI_METHODS: Mapping[str, Operation] = {
    "generateContent": Operation("generate_content", "gemini", stream=False),
    "streamGenerateContent": Operation("generate_content", "gemini_array", stream=True),
    "streamGenerateContent?alt=sse": Operation("generate_content", "gemini", stream=True),
    "countTokens": Operation("count_tokens", "gemini_count", stream=False),
    "embedContent": Operation("embed_content", "gemini_embed_one", stream=False),
    "batchEmbedContents": Operation("embed_content", "gemini_embed", stream=False),
}


GEMINI_MODEL = re.compile(r"[\w.:@+-]+(?:/[\w.:@+-]+)*", re.ASCII)
"""A model's name in a path. Ours may have a provider before it, and a tag behind."""


_PATHS: Mapping[str, Operation] = {
    base + rest: asked
    for bases, operations in ((BASES, OPERATIONS), (OLLAMA_BASES, OLLAMA_OPERATIONS))
    for base in bases
    for rest, asked in operations.items()
} | {f"/{rest}": OPERATIONS[rest] for rest in AT_THE_ROOT}


def operation(path: str, query: bytes = b"") -> Operation | None:
    """What a POST to this path asks for."""
    return _PATHS.get(path) or _gemini_operation(path, query)


def _gemini_operation(path: str, query: bytes) -> Operation | None:
    """`models/{model}:{method}`, of which the model is the path's to say."""
    rest = _below(path, GEMINI_BASES)
    if rest is None or not rest.startswith("models/"):
        return None
    model, colon, method = rest.removeprefix("models/").rpartition(":")
    if method == "streamGenerateContent" and b"alt=sse" in query.split(b"&"):
        method += "?alt=sse"
    asked = GEMINI_METHODS.get(method) if colon and GEMINI_MODEL.fullmatch(model) else None
    return None if asked is None else msgspec.structs.replace(asked, model=model)


DISGUISED = re.compile(rb"%(?:2e|2f|5c|00|25)|//|\\|/\.{1,2}(?:/|$)", re.IGNORECASE)
"""What two readers of one path would take for two paths: encoded dots and slashes, empty and dotted
segments, backslashes, NUL, and what is encoded twice.
"""
A_MODEL = re.compile(
    rb"(?:/models)?/v1(?:beta|alpha)?/models/[^/]+|/models/(?!(?:v1|v1beta|v1alpha|api)%2f)[^/]+",
    re.IGNORECASE,
)
"""The page of one model: clients encode the slashes of its name, and it is answered from what is
known here, never passed on. At the root a name may not begin like one of the bases.
"""


def plain(raw_path: bytes, *, method: str) -> None:
    """Whether a path means one thing only. Raises BadRequest, in status 400."""
    found = DISGUISED.search(raw_path)
    if found is None:
        return
    if method in {"GET", "HEAD"} and A_MODEL.fullmatch(raw_path):
        bare = re.sub(rb"%2f", b"/", raw_path, flags=re.IGNORECASE)
        if DISGUISED.search(bare) is None:
            return
    raise BadRequest(
        "The path holds dots, slashes, backslashes or NUL where they could be read in two ways; write it plainly.",
        code="ambiguous_path",
    )


def gemini_path(path: str) -> None:
    """Whether a POST below Gemini's base names a model and a method that there are. Raises
    BadRequest.
    """
    rest = _below(path, GEMINI_BASES[:-1])
    if rest is None or not rest.startswith("models/"):
        return
    model, colon, method = rest.removeprefix("models/").rpartition(":")
    if not colon or method not in GEMINI_METHODS or not GEMINI_MODEL.fullmatch(model):
        raise BadRequest(
            "The path must be models/{model}:{method}, with a model's name as GET /v1beta/models has it and one of: "
            + ", ".join(name for name in GEMINI_METHODS if "?" not in name)
            + ".",
            code="unknown_method",
        )


DIALECT_OF_FORM: Mapping[str, str] = {
    "openai": "openai_chat",
    "anthropic": "anthropic_messages",
    "gemini": "gemini",
}
"""Who asks on paths that several forms share."""


def dialect_of(path: str, *, form: str = "openai") -> str:
    """What the caller of a path speaks, be it served or not, so that it can read the error. `form`
    is whose client its headers say that it is.
    """
    if (asked := operation(path)) is not None:
        return asked.dialect
    if _below(path, OLLAMA_BASES) is not None:
        return "ollama"
    if _below(path, GEMINI_BASES[:-1]) is not None:
        return "gemini"
    if (below_base(path) or "").startswith("messages/"):
        return "anthropic_messages"
    return DIALECT_OF_FORM[form]


def below_gemini(path: str) -> str | None:
    """What follows a base of Gemini's own interface, None where the path is not below one."""
    return _below(path, GEMINI_BASES[:-1])


def below_base(path: str) -> str | None:
    """What follows a base of the OpenAI-compatible interface, None where the path is not below one.
    The root is one for what is served there.
    """
    rest = _below(path, BASES)
    if rest is not None or is_base(path) or below_ollama(path) is not None or below_gemini(path) is not None:
        return rest
    at_root = path.removeprefix("/")
    return at_root if at_root.rstrip("/") == "models" or at_root.startswith(ROOT_FOLDERS) else None


def below_ollama(path: str) -> str | None:
    """What follows a base of Ollama's interface, None where the path is not below one."""
    return _below(path, OLLAMA_BASES)


def _below(path: str, bases: tuple[str, ...]) -> str | None:
    return next((path[len(base) :] for base in bases if path.startswith(base)), None)


ROOT_FOLDERS = ("models/", "responses/", "messages/")
"""What has something below it that is served at the root."""
_KNOCKS = frozenset(base.rstrip("/") for base in (*BASES, *OLLAMA_BASES, *GEMINI_BASES))


def is_base(path: str) -> bool:
    """Whether a path is a base URL itself, at which clients knock before they begin."""
    return path.rstrip("/") in _KNOCKS
