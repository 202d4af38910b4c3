"""A conversation as alternating turns of a user and an assistant, as Anthropic and Gemini take it.

TurnWriter has the rules that both services share; its subclasses write the parts:

- instructions that begin the conversation stand beside it, in `system`;
- messages without content are left out;
- neighbours of one role become one turn;
- each call has one result, and the results stand in the order of the calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, takewhile
from typing import Any, ClassVar, Generic, Never, TypeVar

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    NOWHERE,
    AudioPart,
    ChatRequest,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
)
from modelplex.dialects.core.losses import Losses

SYSTEM_NOTE = "[System note, not written by the user]\n"
"""Begins an instruction that is sent as a user's text."""
OPENING = "(The conversation begins with the assistant.)"
INSTRUCTIONS = frozenset({"system", "developer"})
"""Roles of instructions."""

Block = TypeVar("Block")


class Turn(msgspec.Struct, Generic[Block], gc=False):
    """One entry of the conversation as it is sent. `path` is where it began in the client's body.
    `holds_results`: it has tool results and nothing else.
    """

    role: str
    content: list[Block]
    path: str = ""
    holds_results: bool = False


class TurnWriter(ABC, Generic[Block]):
    """Writes the messages of a request. After `write`, `system` and `turns` are what is sent."""

    assistant: ClassVar[str] = "assistant"
    """What the service calls the assistant's role."""
    separates_results: ClassVar[bool] = False
    """Whether results need a turn of their own."""
    late_result: ClassVar[str]
    """Why a result that follows other parts is moved before them."""

    def __init__(self, call: ChatRequest, losses: Losses) -> None:
        self._call = call
        self._losses = losses
        self._attempt = losses.attempt
        self.system: list[Block] = []
        self.turns: list[Turn[Block]] = []
        self._open: dict[str, str] = {}
        """The calls that have no result yet: by id, what their results are sent with."""
        self._open_at = NOWHERE

    def __repr__(self) -> str:
        roles = ", ".join(f"{turn.role} {len(turn.content)}" for turn in self.turns)
        return f"<{type(self).__name__} system {len(self.system)}; {roles}>"

    # --- what the services differ in

    @abstractmethod
    def _is_blank(self, text: str) -> bool:
        """Whether the service refuses a part with this text."""

    @abstractmethod
    def _instructions(self, message: Message) -> list[Block]:
        """The texts of an instruction that stands beside the conversation."""

    @abstractmethod
    def _later_instructions(self, message: Message) -> None:
        """Write an instruction that stands inside the conversation."""

    @abstractmethod
    def _assistant(self, run: list[Message]) -> None:
        """Write neighbouring messages of the assistant."""

    @abstractmethod
    def _user_part(self, part: Part, members: dict[str, Any]) -> list[Block]:
        """Write a part of a user's message or of a tool result."""

    @abstractmethod
    def _result(self, part: ToolResultPart, members: dict[str, Any], sent: str) -> list[Block]:
        """Write a tool result; `sent` is what its call was opened with."""

    # --- what they share

    def write(self) -> None:
        """Raises BadRequest for a conversation that no model could continue, Unsupported for parts
        that have no form here, StatePinned for opaque state of another provider.
        """
        kept = [message for message in self._call.messages if not self._is_empty(message)]
        leading = list(takewhile(lambda message: message.role in INSTRUCTIONS, kept))
        for message in leading:
            self._settle(message)
            self.system += self._instructions(message)
        for is_assistant, run in groupby(kept[len(leading) :], lambda each: each.role == "assistant"):
            if is_assistant:
                self._assistant(list(run))
            else:
                self._reply(list(run))
        if self._open:
            raise _unmatched(self._open, (), path=str(self._open_at))
        if not self.turns:
            raise BadRequest("The conversation has no message with content.", param="messages")

    def _begin_with_user(self, opening: Block) -> None:
        if self.turns[0].role == self.assistant:
            self._losses.report("add", self.turns[0].path, "a conversation begins with the user here")
            self.turns.insert(0, Turn("user", [opening]))

    def _is_empty(self, message: Message) -> bool:
        for part in message.parts:
            if not isinstance(part, TextPart | RefusalPart) or not self._is_blank(part.text):
                return False
        self._losses.drop(message.path, "a message without content is refused here")
        return True

    def _settle(self, message: Message) -> None:
        if members := self._losses.members(message):
            self._losses.settle(message, members)

    def _written(self, part: Part, write: Callable[[Part, dict[str, Any]], list[Block]]) -> list[Block]:
        """The blocks of a part. Members that `write` does not pop are reported."""
        members = self._losses.members(part)
        blocks = write(part, members)
        if members:
            self._losses.settle(part, members)
        return blocks

    def _append(self, role: str, blocks: Sequence[Block], path: str, *, holds_results: bool = False) -> None:
        if not blocks:
            return
        last = self.turns[-1] if self.turns else None
        if (
            last is not None
            and last.role == role
            and (last.holds_results == holds_results or not self.separates_results)
        ):
            last.content += blocks
        else:
            self.turns.append(Turn(role, list(blocks), path, holds_results))

    def _reply(self, run: list[Message]) -> None:
        """Write the messages between two of the assistant: results first."""
        self._append("user", self._results(run), run[0].path, holds_results=True)
        for message in run:
            self._settle(message)
            if message.role in INSTRUCTIONS:
                self._later_instructions(message)
                continue
            blocks = [
                block
                for part in message.parts
                if not isinstance(part, ToolResultPart)
                for block in self._written(part, self._user_part)
            ]
            self._append("user", blocks, message.path)

    def _open_call(self, part: ToolCallPart, sent: str) -> None:
        """Expect a result for the call. Raises BadRequest for a second call with its id."""
        if part.id in self._open:
            raise BadRequest(f"Two calls of one turn have the id {part.id!r}.", param=str(part.at))
        self._open[part.id] = sent
        self._open_at = part.at

    def _results(self, run: list[Message]) -> list[Block]:
        """The results of the open calls, in the order of the calls."""
        given: dict[str, ToolResultPart] = {}
        is_late = False
        for message in run:
            for part in message.parts:
                if not isinstance(part, ToolResultPart):
                    is_late = True
                    continue
                if part.id in given:
                    raise BadRequest(f"The call {part.id!r} has two results.", param=str(part.at))
                if is_late:
                    self._losses.report("move", part.at, self.late_result)
                given[part.id] = part
        if self._open.keys() != given.keys():
            missing = [id_ for id_ in self._open if id_ not in given]
            unasked = [id_ for id_ in given if id_ not in self._open]
            raise _unmatched(missing, unasked, path=str(given[unasked[0]].at) if unasked else run[0].path)
        blocks: list[Block] = []
        for id_, sent in self._open.items():
            part = given[id_]
            members = self._losses.members(part)
            blocks += self._result(part, members, sent)
            if members:
                self._losses.settle(part, members)
        self._open = {}
        return blocks

    def _refuse(self, part: ImagePart | AudioPart | DocumentPart | SearchResultPart) -> Never:
        raise Unsupported(
            f"{type(part).__name__} is not possible in an assistant's message here.", param=str(part.at)
        )

    def _misplaced(self, part: ReasoningPart | ToolCallPart | ToolResultPart | ToolReferencePart) -> Never:
        where = (
            "an assistant's message"
            if isinstance(part, ToolResultPart | ToolReferencePart)
            else "a message of the user"
        )
        raise BadRequest(f"{type(part).__name__} cannot be part of {where}.", param=str(part.at))


def _unmatched(missing: Iterable[str], unasked: Iterable[str], *, path: str) -> BadRequest:
    faults = [
        f"{what}: {', '.join(ids)}"
        for what, ids in (("calls without a result", missing), ("results without a call", unasked))
        if ids
    ]
    return BadRequest(f"Tool calls and results do not match; {'; '.join(faults)}.", param=path)
