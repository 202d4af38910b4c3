"""All dialects. Everything about one is a member of its value (`dialect.py`), or of its form
(`form.py`).

Adding a dialect is one folder and one line here. Forms are read at import; the functions of a
dialect are loaded when its value is first asked for, since most gateways use one or two dialects.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt, ChatRequest, ProviderRequest
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.core.alternating_roles import with_alternating_roles
from modelplex.dialects.core.deferred_tools import presented
from modelplex.dialects.core.system_messages import with_system_first, without_system
from modelplex.dialects.form import Form

if TYPE_CHECKING:
    from modelplex.dialects.dialect import Dialect, ProviderDialect

FOLDERS = (
    "openai_chat",
    "openai_responses",
    "anthropic",
    "gemini",
    "ollama",
    "bedrock_converse",
)
"""Each has the forms of a dialect in `forms.py`, and its values in `dialect.py`."""


def _forms(folder: str) -> tuple[Form, ...]:
    forms: tuple[Form, ...] = import_module(f"{__package__}.{folder}.forms").FORMS
    return forms


_FOLDER_OF = {form: folder for folder in FOLDERS for form in _forms(folder)}
FORMS: dict[str, Form] = {form.name: form for form in _FOLDER_OF}
"""By name, every dialect. The variants of a dialect follow it."""

DEFAULT = next(iter(FORMS))
"""The dialect on shared paths, unless a header identifies another."""


class _Dialects(dict[str, "Dialect"]):
    """Loads a dialect at its first subscript; `in` and iteration see the loaded ones."""

    def __missing__(self, name: str) -> Dialect:
        """Raises KeyError for a name that is not in FORMS."""
        values: tuple[Dialect, ...] = import_module(
            f"{__package__}.{_FOLDER_OF[FORMS[name]]}.dialect"
        ).DIALECTS
        for dialect in values:
            self.setdefault(dialect.form.name, dialect)
        return self[name]


DIALECTS: dict[str, Dialect] = _Dialects()
"""By name. `DIALECTS[name]` is any dialect of FORMS."""


def find(name: str) -> Dialect | None:
    """The dialect of this name, if there is one. "" is none."""
    return DIALECTS[name] if name in FORMS else None


def load(names: Iterable[str]) -> None:
    """Load these dialects now."""
    for name in names:
        DIALECTS[name]


def same_family(first: str, second: str) -> bool:
    """Whether two dialects share their error bodies. "" is of no family."""
    if first not in FORMS or second not in FORMS:
        return False
    return FORMS[first].family is FORMS[second].family


def request_names(dialect: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers with a request's id: x-request-id, and the one that the client's library reads
    (docs/reference/wire-formats.md#endpoints-and-headers).
    """
    name, more = request_id.encode(), DIALECTS[dialect].family.request_id_header
    ours = [(b"x-request-id", name)]
    return ours if more is None else [*ours, (more, name)]


def provider_dialect(dialect: str) -> ProviderDialect:
    """The provider half of a dialect. Raises KeyError where it has none."""
    found = DIALECTS[dialect].family.provider
    if found is None:
        raise KeyError(dialect)
    return found


def write_request(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The body for a provider: what only the client's dialect has is settled first. Errors name the
    place in the client's body.

    Raises:
        KeyError: no provider speaks this dialect.
        BadRequest: the conversation or a schema is wrong for every model.
        Unsupported: the dialect or the model cannot express a part.
        StatePinned: the conversation holds opaque state of another provider or account.
    """
    writer = provider_dialect(attempt.dialect)
    source = find(call.dialect)
    if source is not None and source.lower is not None:
        call = source.lower(call, attempt)
    if not same_family(call.dialect, attempt.dialect):
        call = cross_dialect.prepare(call, find)
        if not (attempt.quirks.loads_tools and attempt.facts.deferred_tools):
            call = presented(call)
    if attempt.quirks.system_messages == "first":
        call = with_system_first(call)
    elif attempt.quirks.system_messages == "nowhere":
        call = without_system(call)
    if attempt.quirks.roles == "alternate":
        call = with_alternating_roles(call)
    return writer.write_call(call, attempt)


def write_error(dialect: str, error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    """Status and body, as a client of this dialect expects them."""
    write = DIALECTS[dialect].family.write_error
    if write is None:
        raise KeyError(dialect)
    return write(error, request_id=request_id)
