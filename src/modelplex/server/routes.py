"""The route table: from a path to an operation and the client's dialect. Pure.

The paths are members of the forms. A path that is not in the table is a 404, in the
dialect of the path's base: no unknown path is forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import Endpoint
from modelplex.dialects.form import Form
from modelplex.dialects.registry import DEFAULT, FORMS

BASES = ("/models/v1/", "/v1/")
"""The OpenAI-compatible interface, and its alias for clients whose base URL cannot be longer."""

TELEMETRY = frozenset(base + signal for base in BASES for signal in ("metrics", "logs", "traces"))
"""Where Claude Code exports its telemetry to a gateway. It is to answer 200 "whether you forward or
discard": `claude gateway` at GET /protocol, Claude Code 2.1.332, read on 2026-12-01.
"""

MCP = "/mcp/"
"""The base of the tool routes, which mcp/clients has."""


class Operation(msgspec.Struct, frozen=True):
    """`dialect` is the client's. `form` allows multipart/form-data. `model` and `stream` are set
    where the path has them, and not the body.
    """

    endpoint: Endpoint
    dialect: str
    form: bool = False
    model: str | None = None
    stream: bool | None = None


MODEL_IN_PATH = re.compile(r"[\w.:@+-]+(?:/[\w.:@+-]+)*", re.ASCII)
"""A model name in a path: with a provider before it and a tag behind it, where it has them."""


class _Methods(msgspec.Struct, frozen=True):
    """Operations of a family at "models/{model}:{method}". Other dialects use the `shared` bases
    too.
    """

    bases: tuple[str, ...]
    shared: tuple[str, ...]
    operations: dict[str, Operation]


class _Routes(msgspec.Struct, frozen=True):
    """paths    operations by whole path
    methods  of the families whose paths name the model
    own      bases that belong to one dialect
    folders  prefixes below a shared base that belong to one dialect
    headers  headers that identify the client's dialect on shared paths
    bases    every base without its last slash
    """

    paths: dict[str, Operation]
    methods: tuple[_Methods, ...]
    own: dict[str, str]
    folders: dict[str, str]
    headers: dict[bytes, str]
    bases: frozenset[str]


@lru_cache(maxsize=8)
def _build(forms: tuple[Form, ...]) -> _Routes:
    paths: dict[str, Operation] = {}
    methods: dict[str, dict[str, Operation]] = {}
    own = {base: form.name for form in forms for base in form.bases}
    for form in forms:
        operations = {
            path: Operation(to.endpoint, form.name, form=to.form, stream=to.stream)
            for path, to in form.paths.items()
        }
        if form.model_in_path:
            methods.setdefault(form.family.name, {}).update(operations)
            continue
        bases = (*(form.family.bases or BASES), *(("/",) if form.at_root else ()))
        paths |= {base + path: operation for base in bases for path, operation in operations.items()}
    families = {form.name: form for form in forms}
    return _Routes(
        paths=paths,
        methods=tuple(
            _Methods(families[name].bases, tuple(filter(None, [families[name].shared_base])), operations)
            for name, operations in methods.items()
        ),
        own=own,
        folders={form.folder: form.name for form in forms if form.folder},
        headers={header: form.name for form in forms for header in form.client_headers},
        bases=frozenset(base.rstrip("/") for base in (*BASES, *own)),
    )


def _routes() -> _Routes:
    return _build(tuple(FORMS.values()))


def find_operation(path: str, query: bytes = b"") -> Operation | None:
    """The operation of a POST to this path."""
    routes = _routes()
    found = routes.paths.get(path)
    if found is not None:
        return found
    for family in routes.methods:
        model, method = _model_and_method(path, (*family.bases, *family.shared))
        streamed = f"{method}?alt=sse" if b"alt=sse" in query.split(b"&") else method
        found = family.operations.get(streamed) or family.operations.get(method)
        if found is not None:
            return msgspec.structs.replace(found, model=model)
    return None


def _model_and_method(path: str, bases: Iterable[str]) -> tuple[str, str]:
    """The parts of "models/{model}:{method}" below a base; twice "" for any other path."""
    rest = _below(path, bases)
    if rest is None or not rest.startswith("models/"):
        return "", ""
    model, _, method = rest.removeprefix("models/").rpartition(":")
    return (model, method) if MODEL_IN_PATH.fullmatch(model) else ("", "")


AMBIGUOUS = re.compile(rb"%(?:2e|2f|5c|00|25)|//|\\|/\.{1,2}(?:/|$)", re.IGNORECASE)
"""What two parsers may read as two paths: encoded dots and slashes, empty and dotted segments,
backslashes, NUL, and double encoding.
"""
MODEL_PAGE = re.compile(
    rb"(?:/models)?/v1(?:beta|alpha)?/models/[^/]+|/models/(?!(?:v1|v1beta|v1alpha|api)%2f)[^/]+",
    re.IGNORECASE,
)
"""The page of one model. Clients encode the slashes of its name, and it is never forwarded. At the
root a name may not begin like a base.
"""


def check_unambiguous(raw_path: bytes, *, method: str) -> None:
    """Raises BadRequest for a path that two parsers may read as two paths."""
    if AMBIGUOUS.search(raw_path) is None:
        return
    if method in {"GET", "HEAD"} and MODEL_PAGE.fullmatch(raw_path):
        bare = re.sub(rb"%2f", b"/", raw_path, flags=re.IGNORECASE)
        if AMBIGUOUS.search(bare) is None:
            return
    raise BadRequest(
        "The path has dots, slashes, backslashes or NUL that can be read in two ways; write it without them.",
        code="ambiguous_path",
    )


def check_method(path: str) -> None:
    """Raises BadRequest for a POST below the base of a family whose paths name the model, without a
    valid model and method.
    """
    for family in _routes().methods:
        rest = _below(path, family.bases)
        if rest is None or not rest.startswith("models/"):
            continue
        if _model_and_method(path, family.bases)[1] not in family.operations:
            raise BadRequest(
                "The path must be models/{model}:{method}, with a model's name as "
                f"GET {family.bases[0]}models has it and one of: "
                + ", ".join(name for name in family.operations if "?" not in name)
                + ".",
                code="unknown_method",
            )


def client_headers() -> Mapping[bytes, str]:
    """The headers that identify a client's dialect, on paths that several dialects share."""
    return _routes().headers


def dialect_of(path: str, *, client: str = DEFAULT) -> str:
    """The client's dialect, in which it can read an error, for any path. `client` is the dialect
    by its headers, for paths that several dialects share.
    """
    if (operation := find_operation(path)) is not None:
        return operation.dialect
    if (own := below_own_base(path)) is not None:
        return own[0]
    rest = below_base(path) or ""
    return next((name for folder, name in _routes().folders.items() if rest.startswith(folder)), client)


def below_own_base(path: str) -> tuple[str, str] | None:
    """The name of the dialect that alone has the path's base, and the rest of the path; None below
    a shared base.
    """
    own = _routes().own
    return next(((own[base], path[len(base) :]) for base in own if path.startswith(base)), None)


def below_base(path: str) -> str | None:
    """The path below a base of the OpenAI-compatible interface, None if it is not below one. The
    root is a base for the paths that are served there.
    """
    rest = _below(path, BASES)
    if rest is not None or is_base(path) or below_own_base(path) is not None:
        return rest
    at_root = path.removeprefix("/")
    folders = ("models/", *_routes().folders)
    return at_root if at_root.rstrip("/") == "models" or at_root.startswith(folders) else None


def _below(path: str, bases: Iterable[str]) -> str | None:
    return next((path[len(base) :] for base in bases if path.startswith(base)), None)


def is_base(path: str) -> bool:
    """Whether a path is a base URL itself, which some clients request first."""
    return path.rstrip("/") in _routes().bases
