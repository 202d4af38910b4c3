"""The special cases of the Responses API: `previous_response_id`, item references, `store`, and the
paths below `responses/`.

Nothing is stored without [server] keep_responses, and clients of one owner find no response of
another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from modelplex.core.errors import BadRequest, NotFound
from modelplex.core.request import RawRequest
from modelplex.dialects.dialect import StoredContext
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.registry import DIALECTS
from modelplex.pipeline.offload import Offload
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
    if DIALECTS[request.dialect].storing is None:
        return request, None
    stored = StoredResponses(store, owner=owner, offload=offload)
    return await stored.open(request), stored


class StoredResponses:
    """One request's access to the store. `owner` is its listener or agent."""

    def __init__(self, answers: ResponseStore | None, *, owner: str, offload: Offload) -> None:
        self._answers = answers
        self._owner = owner
        self._offload = offload
        self._input: list[msgspec.Raw] = []
        self.kept: StoredContext | None = None

    async def open(self, raw_request: RawRequest) -> RawRequest:
        """The request with the earlier turns that it names. Raises BadRequest for a response that
        is not stored here.
        """
        openai_responses.check_state(raw_request, keeps=self._answers is not None)
        previous = openai_responses.previous_response(raw_request)
        store = self._answers is not None and openai_responses.wants_keeping(raw_request)
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
                partial(openai_responses.with_history, raw_request, earlier.items),
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
            partial(openai_responses.input_items, raw_request), body=raw_request.body, owner=self._owner
        )

    async def _resolved(self, answers: ResponseStore, raw_request: RawRequest) -> RawRequest:
        """The request with each item reference replaced by the item. Raises BadRequest for an item
        that is not stored here.
        """
        items: list[msgspec.Raw] = []
        found = await self._offload.run(
            partial(_with_references, raw_request), body=raw_request.body, owner=self._owner
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
        return openai_responses.with_items(raw_request, items)

    async def keep(self, body: bytes | None) -> None:
        """Store this response object, if the request wants it stored."""
        if body is None or self._answers is None or self.kept is None or not self.kept.store:
            return
        name = openai_responses.response_id(body)
        if not name:
            return
        await self._answers.keep(
            name,
            input=self._input,
            output=openai_responses.output_items(body),
            body=body,
            owner=self._owner,
        )

    def stream_keeper(self) -> Callable[[bytes], Awaitable[None]] | None:
        """Keeps the response object in the events that it is given; None where none is to be
        kept.
        """
        return self._keep_final if self.kept is not None and self.kept.store else None

    async def _keep_final(self, events: bytes) -> None:
        await self.keep(openai_responses.final_response(events))


def _with_references(raw_request: RawRequest) -> list[tuple[msgspec.Raw, str | None]]:
    """Each item of the request, with the id where it is a reference and nothing else."""
    return [(raw, openai_responses.read_reference(raw)) for raw in openai_responses.input_items(raw_request)]


async def kept_answer(answers: ResponseStore | None, name: str, *, owner: str) -> StoredResponse:
    """The response with this id. Raises NotFound."""
    found = await answers.find(name, owner=owner) if answers is not None else None
    if found is None:
        why = "" if answers is not None else " Answers are not kept; [server] keep_responses would."
        raise NotFound(f"There is no response {name!r} here.{why}")
    return found


async def answer_view(answers: ResponseStore | None, rest: str, *, method: str, owner: str) -> bytes | None:
    """The body of a response to a path below `responses/`: the response, its input items, or that
    it is deleted. None where there is no such path.
    """
    name, _, part = rest.partition("/")
    match method, part:
        case "GET" | "HEAD", "":
            return (await kept_answer(answers, name, owner=owner)).body
        case "GET" | "HEAD", "input_items":
            found = await kept_answer(answers, name, owner=owner)
            return openai_responses.write_item_list(found.input, response_id=name)
        case "DELETE", "" if answers is not None:
            await kept_answer(answers, name, owner=owner)
            await answers.delete(name, owner=owner)
            return openai_responses.write_deleted(name)
        case "POST", "cancel":
            await kept_answer(answers, name, owner=owner)
            raise BadRequest(
                "Only a response that runs in the background can be cancelled, and none does here: hang up instead."
            )
        case _:
            return None
