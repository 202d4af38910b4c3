"""The special cases of the Responses API: `previous_response_id`, item references, `store`, and the
paths below `responses/`.

Nothing is stored without [server] keep_responses, and clients of one owner find no response of
another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from modelplex.core.errors import BadRequest, NotFound
from modelplex.core.request import RawRequest
from modelplex.dialects.dialect import ResponseStorage, StoredContext
from modelplex.dialects.registry import DIALECTS, FORMS
from modelplex.pipeline.offload import Offload

if TYPE_CHECKING:
    from modelplex.pipeline.response_store import ResponseStore, StoredResponse

REFERENCE = b'"item_reference"'
"""The type of an item that refers to a stored item."""
MAX_REFERENCES = 500
"""Item references in one request. Each is searched in the last stored responses, in which no
conversation has so many turns.
"""


async def open_stored(
    request: RawRequest, store: ResponseStore | None, *, owner: str, offload: Offload
) -> tuple[RawRequest, StoredResponses | None]:
    """The request with the earlier turns that it names, and its access to the store; None in a
    dialect other than Responses. Raises BadRequest for a state that is not stored here.
    """
    dialect = DIALECTS[request.dialect].storage
    if dialect is None:
        return request, None
    stored = StoredResponses(store, dialect=dialect, owner=owner, offload=offload)
    return await stored.open(request), stored


class StoredResponses:
    """One request's access to the store. `owner` is its listener or agent."""

    def __init__(
        self, answers: ResponseStore | None, *, dialect: ResponseStorage, owner: str, offload: Offload
    ) -> None:
        self._answers = answers
        self._dialect = dialect
        self._owner = owner
        self._offload = offload
        self._input: list[msgspec.Raw] = []
        self.kept: StoredContext | None = None
        self.response_id: str | None = None
        """Of the response that was stored."""

    async def open(self, raw_request: RawRequest) -> RawRequest:
        """The request with the earlier turns that it names. Raises BadRequest for a response that
        is not stored here.
        """
        self._dialect.check_state(raw_request, self._answers is not None)
        previous = self._dialect.previous_response(raw_request)
        store = self._answers is not None and self._dialect.wants_storing(raw_request)
        self.kept = StoredContext(store=store, previous=previous)
        if self._answers is not None and previous is not None:
            earlier = await self._answers.find(previous, owner=self._owner)
            if earlier is None:
                raise BadRequest(
                    f"There is no response {previous!r} here, or no longer: send the earlier items in 'input'.",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            raw_request = await self._offload.run(
                partial(self._dialect.with_history, raw_request, earlier.items),
                body=raw_request.body if len(raw_request.body) > len(earlier.body) else earlier.body,
                owner=self._owner,
            )
        if self._answers is not None and REFERENCE in raw_request.body:
            raw_request = await self._resolved(self._answers, raw_request)
        if store:
            self._input = await self._items(raw_request)
        return raw_request

    async def _items(self, raw_request: RawRequest) -> list[msgspec.Raw]:
        return await self._offload.run(
            partial(self._dialect.input_items, raw_request), body=raw_request.body, owner=self._owner
        )

    async def _resolved(self, answers: ResponseStore, raw_request: RawRequest) -> RawRequest:
        """The request with each item reference replaced by the item. Raises BadRequest for an item
        that is not stored here.
        """
        items: list[msgspec.Raw] = []
        found = await self._offload.run(
            partial(_with_references, self._dialect, raw_request), body=raw_request.body, owner=self._owner
        )
        if sum(reference is not None for _, reference in found) > MAX_REFERENCES:
            raise BadRequest(
                f"'input' names more than {MAX_REFERENCES} items by their ids alone: send the items.",
                param="input",
            )
        for at, (raw, reference) in enumerate(found):
            item = raw if reference is None else await answers.find_item(reference, owner=self._owner)
            if item is None:
                raise BadRequest(
                    f"There is no item {reference!r} here, or no longer: send the item itself.",
                    param=f"input[{at}].id",
                )
            items.append(item)
        return self._dialect.with_items(raw_request, items)

    async def keep(self, body: bytes | None) -> None:
        """Store this response object, if the request wants it stored."""
        if body is None or self._answers is None or self.kept is None or not self.kept.store:
            return
        name = self._dialect.response_id(body)
        if not name:
            return
        await self._answers.keep(
            name,
            input=self._input,
            output=self._dialect.output_items(body),
            body=body,
            owner=self._owner,
        )
        self.response_id = name

    @property
    def previous(self) -> str | None:
        """The id of the response from which this request goes on."""
        return self.kept.previous if self.kept is not None else None

    def stream_keeper(self) -> Callable[[bytes], Awaitable[None]] | None:
        """Keeps the response object in the events that it is given; None where none is to be
        kept.
        """
        return self._keep_final if self.kept is not None and self.kept.store else None

    async def _keep_final(self, events: bytes) -> None:
        await self.keep(self._dialect.final_response(events))


def _with_references(
    dialect: ResponseStorage, raw_request: RawRequest
) -> list[tuple[msgspec.Raw, str | None]]:
    """Each item of the request, with the id where it is a reference and nothing else."""
    return [(raw, dialect.read_reference(raw)) for raw in dialect.input_items(raw_request)]


async def kept_answer(answers: ResponseStore | None, name: str, *, owner: str) -> StoredResponse:
    """The response with this id. Raises NotFound."""
    found = await answers.find(name, owner=owner) if answers is not None else None
    if found is None:
        why = "" if answers is not None else " Responses are not stored without [server] keep_responses."
        raise NotFound(f"There is no response {name!r} here.{why}")
    return found


def storage_at(path: str) -> tuple[ResponseStorage, str] | None:
    """The storage functions of the dialect in whose folder this path is, and the path in there."""
    for name, form in FORMS.items():
        if form.folder and path.startswith(form.folder) and (storage := DIALECTS[name].storage) is not None:
            return storage, path.removeprefix(form.folder)
    return None


async def answer_view(answers: ResponseStore | None, path: str, *, method: str, owner: str) -> bytes | None:
    """The body of a response to a path below a base ("responses/resp_1"): the response, its input
    items, or that it is deleted. None where there is no such path.
    """
    if (found_at := storage_at(path)) is None:
        return None
    dialect, rest = found_at
    name, _, part = rest.partition("/")
    match method, part:
        case "GET" | "HEAD", "":
            return (await kept_answer(answers, name, owner=owner)).body
        case "GET" | "HEAD", "input_items":
            found = await kept_answer(answers, name, owner=owner)
            return dialect.write_item_list(found.input, name)
        case "DELETE", "" if answers is not None:
            await kept_answer(answers, name, owner=owner)
            await answers.delete(name, owner=owner)
            return dialect.write_deleted(name)
        case "POST", "cancel":
            await kept_answer(answers, name, owner=owner)
            raise BadRequest(
                "Only background responses can be cancelled, and this gateway has none: close the connection instead."
            )
        case _:
            return None
