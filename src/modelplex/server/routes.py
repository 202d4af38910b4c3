"""The route table: the operation that a path asks for, and the dialect of its caller. Pure.

The paths are members of the Dialect values. A path that is not in the table is a 404, in the
dialect that the path begins like: nothing is passed through because somebody asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import Endpoint
from modelplex.dialects.dialect import Dialect
from modelplex.dialects.registry import DEFAULT, DIALECTS

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


MODEL_IN_PATH = re.compile(r"[\w.:@+-]+(?:/[\w.:@+-]+)*", re.ASCII)
"""A model's name in a path. Ours may have a provider before it, and a tag behind."""


class _Methods(msgspec.Struct, frozen=True):
    """Operations of a family at "models/{model}:{method}". `shared`: the bases that other dialects
    have too.
    """

    bases: tuple[str, ...]
    shared: tuple[str, ...]
    operations: dict[str, Operation]


class _Routes(msgspec.Struct, frozen=True):
    """paths    operations by whole path
    methods  of the families whose paths name the model
    own      bases that belong to one dialect
    folders  prefixes below a shared base that belong to one dialect
    headers  headers that name the dialect of the client on shared paths
    """

    paths: dict[str, Operation]
    methods: tuple[_Methods, ...]
    own: dict[str, Dialect]
    folders: dict[str, str]
    headers: dict[bytes, str]
    bases: frozenset[str]


@lru_cache(maxsize=8)
def _read(dialects: tuple[Dialect, ...]) -> _Routes:
    paths: dict[str, Operation] = {}
    methods: dict[str, dict[str, Operation]] = {}
    own: dict[str, Dialect] = {base: d for d in dialects for base in d.bases}
    for d in dialects:
        asked = {
            path: Operation(to.endpoint, d.name, form=to.form, stream=to.stream)
            for path, to in d.paths.items()
        }
        if d.model_in_path:
            methods.setdefault(d.family.name, {}).update(asked)
            continue
        bases = (*(d.family.bases or BASES), *(("/",) if d.at_root else ()))
        paths |= {base + path: operation for base in bases for path, operation in asked.items()}
    families = {d.name: d for d in dialects}
    return _Routes(
        paths=paths,
        methods=tuple(
            _Methods(families[name].bases, tuple(filter(None, [families[name].shared_base])), operations)
            for name, operations in methods.items()
        ),
        own=own,
        folders={d.folder: d.name for d in dialects if d.folder},
        headers={header: d.name for d in dialects for header in d.client_headers},
        bases=frozenset(base.rstrip("/") for base in (*BASES, *own)),
    )


def _routes() -> _Routes:
    return _read(tuple(DIALECTS.values()))


def operation(path: str, query: bytes = b"") -> Operation | None:
    """What a POST to this path asks for."""
    routes = _routes()
    found = routes.paths.get(path)
    if found is not None:
        return found
    for family in routes.methods:
        rest = _below(path, (*family.bases, *family.shared))
        if rest is None or not rest.startswith("models/"):
            continue
        model, colon, method = rest.removeprefix("models/").rpartition(":")
        if not colon or not MODEL_IN_PATH.fullmatch(model):
            continue
        asked = None
        if b"alt=sse" in query.split(b"&"):
            asked = family.operations.get(f"{method}?alt=sse")
        asked = asked or family.operations.get(method)
        if asked is not None:
            return msgspec.structs.replace(asked, model=model)
    return None


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


def check_method(path: str) -> None:
    """Whether a POST below the base of a family whose paths name the model has a model and a method
    that there are. Raises BadRequest.
    """
    for family in _routes().methods:
        rest = _below(path, family.bases)
        if rest is None or not rest.startswith("models/"):
            continue
        model, colon, method = rest.removeprefix("models/").rpartition(":")
        if not colon or method not in family.operations or not MODEL_IN_PATH.fullmatch(model):
            raise BadRequest(
                "The path must be models/{model}:{method}, with a model's name as "
                f"GET {family.bases[0]}models has it and one of: "
                + ", ".join(name for name in family.operations if "?" not in name)
                + ".",
                code="unknown_method",
            )


def client_of_header(name: bytes) -> str | None:
    """The dialect whose clients send this header, on paths that several dialects share."""
    return _routes().headers.get(name)


def dialect_of(path: str, *, client: str = DEFAULT) -> str:
    """The dialect of the caller of a path, be it served or not, so that it can read the error.
    `client` is the one that its headers name.
    """
    if (asked := operation(path)) is not None:
        return asked.dialect
    if (own := below_own_base(path)) is not None:
        return own[0].name
    rest = below_base(path) or ""
    return next((name for folder, name in _routes().folders.items() if rest.startswith(folder)), client)


def below_own_base(path: str) -> tuple[Dialect, str] | None:
    """The dialect to which a path's base belongs, and what follows it; None below a shared base."""
    own = _routes().own
    return next(((own[base], path[len(base) :]) for base in own if path.startswith(base)), None)


def below_base(path: str) -> str | None:
    """What follows a base of the OpenAI-compatible interface, None where the path is not below one.
    The root is one for what is served there.
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
    """Whether a path is a base URL itself, which clients look at before they begin."""
    return path.rstrip("/") in _routes().bases
