"""The Form: what is known of a dialect before one of its requests comes.

`forms.py` in the folder of a dialect has the Form of each of its Dialect values. The route table
and the choice of a provider's endpoint read Forms only, so that the functions of a dialect are
loaded when they are first needed (`registry.py`). Imports core.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.request import Endpoint

CONVERSATION: Endpoint = "chat/completions"
"""What a provider's row calls a conversation, whatever its dialect."""


class ClientPath(msgspec.Struct, frozen=True, gc=False):
    """The operation at a path. `form`: the body may be multipart/form-data. `stream` is set where
    the path decides it, and not the body.
    """

    endpoint: Endpoint
    form: bool = False
    stream: bool | None = None


class Form(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """Name, paths and endpoints of one dialect.

    name              unique; what RawRequest.dialect and Attempt.dialect hold
    variant_of        the form whose errors, models, opaque state and paths this form shares
    model_in_path     the model's name is in the path of the URL and not in the body

    Paths of clients:

    client_headers    headers that identify a client of this dialect on shared paths
    bases             its own base paths; empty: those of the OpenAI-compatible interface
    shared_base       a base path of the OpenAI-compatible interface that it has too
    paths             operations by the path below a base; with `model_in_path` by the method after
                      "models/{model}:". "?alt=sse" belongs to the method
    at_root           the paths are also served below "/"
    folder            a prefix below a base whose sub-paths are this dialect's

    Providers:

    endpoint          the endpoint of its requests
    served_as         the name of that in `serves` of a provider's row
    beside            a provider of another dialect may have this one too, under `endpoint`
    passes            a provider may have it, and its bytes then pass unchanged
    converses         its requests are conversations, or become one
    counts            its requests are counts of tokens
    seed              the members of a request that lead to its seed; () where it has none
    """

    name: str
    variant_of: Form | None = None
    model_in_path: bool = False

    client_headers: frozenset[bytes] = frozenset()
    bases: tuple[str, ...] = ()
    shared_base: str = ""
    paths: Mapping[str, ClientPath] = {}
    at_root: bool = False
    folder: str = ""

    endpoint: Endpoint | None = None
    served_as: Endpoint | None = None
    beside: bool = False
    passes: bool = False
    converses: bool = False
    counts: bool = False
    seed: tuple[str, ...] = ()

    @property
    def family(self) -> Form:
        """The form whose errors and models this one shares: itself unless it is a variant."""
        return self.variant_of or self

    def __repr__(self) -> str:
        return f"<Form {self.name}>"
