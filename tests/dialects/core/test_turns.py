"""Alternating turns, and tool results in the order of their calls."""

from typing import Any, ClassVar

import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    Message,
    Part,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.core.turns import TurnWriter
from tests.dialects.sides import with_places


class Plain(TurnWriter[str]):
    """Each part as a word."""

    late_result = "moved"
    separates_results: ClassVar[bool] = False

    def _is_blank(self, text: str) -> bool:
        return not text

    def _instructions(self, message: Message) -> list[str]:
        return [part.text for part in message.parts if isinstance(part, TextPart)]

    def _later_instructions(self, message: Message) -> None:
        self._append("user", ["note"], message.path)

    def _assistant(self, run: list[Message]) -> None:
        for message in run:
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    self._open_call(part, part.id.upper())
            self._append("assistant", [type(part).__name__[:4] for part in message.parts], message.path)

    def _user_part(self, part: Part, members: dict[str, Any]) -> list[str]:
        return [part.text] if isinstance(part, TextPart | RefusalPart) else []

    def _result(self, part: ToolResultPart, members: dict[str, Any], sent: str) -> list[str]:
        return [sent]


class Separate(Plain):
    separates_results = True


def writer(*messages: Message, kind: type[Plain] = Plain) -> tuple[Plain, list[Change]]:
    changes: list[Change] = []
    attempt = Attempt(provider="p", model="m", dialect="d")
    losses = Losses(changes, attempt, native=False, name_of=ToolAliases(changes, native=True).sent)
    return kind(with_places(ChatRequest(dialect="toy", model="m", messages=messages)), losses), changes


def turns(*messages: Message, kind: type[Plain] = Plain) -> list[tuple[str, list[str]]]:
    made, _ = writer(*messages, kind=kind)
    made.write()
    return [(turn.role, turn.content) for turn in made.turns]


def user(*texts: str) -> Message:
    return Message("user", tuple(TextPart(text) for text in texts))


def calls(*ids: str) -> Message:
    return Message("assistant", tuple(ToolCallPart(id_, "f", "{}") for id_ in ids))


def results(*ids: str) -> Message:
    return Message("tool", tuple(ToolResultPart(id_, ()) for id_ in ids))


def test_neighbours_of_one_role_are_one_turn() -> None:
    assert turns(user("a"), user("b"), calls(), user("c")) == [("user", ["a", "b", "c"])]


def test_leading_instructions_stand_beside_and_later_ones_inside() -> None:
    made, _ = writer(Message("system", (TextPart("s"),)), user("a"), Message("developer", (TextPart("d"),)))
    made.write()
    assert made.system == ["s"]
    assert [turn.content for turn in made.turns] == [["a", "note"]]
    assert repr(made) == "<Plain system 1; user 2>"


def test_results_come_first_in_the_order_of_the_calls() -> None:
    conversation = (user("a"), calls("x", "y"), user("late"), results("y", "x"), user("b"))
    assert turns(*conversation)[2:] == [("user", ["X", "Y", "late", "b"])]
    assert turns(*conversation, kind=Separate)[2:] == [("user", ["X", "Y"]), ("user", ["late", "b"])]
    made, changes = writer(*conversation)
    made.write()
    moved = [change.path for change in changes if change.op == "move"]
    assert moved == ["messages[3].content[0]", "messages[3].content[1]"]


def test_an_empty_message_is_left_out_and_reported() -> None:
    made, changes = writer(user("a"), user("", ""), Message("assistant", ()), user("b"))
    made.write()
    assert [turn.content for turn in made.turns] == [["a", "b"]]
    assert [(change.op, change.path) for change in changes] == [
        ("drop", "messages[1]"),
        ("drop", "messages[2]"),
    ]


@pytest.mark.parametrize(
    ("messages", "told", "param"),
    [
        ((user("a"), calls("x")), "calls without a result: x", "messages[1].content[0]"),
        ((user("a"), calls("x"), user("b")), "calls without a result: x", "messages[2]"),
        ((user("a"), results("z")), "results without a call: z", "messages[1].content[0]"),
        (
            (user("a"), calls("x"), results("z")),
            "result: x; results without a call: z",
            "messages[2].content[0]",
        ),
        ((user("a"), calls("x"), results("x", "x")), "two results", "messages[2].content[1]"),
        ((user("a"), calls("x", "x")), "Two calls", "messages[1].content[1]"),
        ((), "no message with content", "messages"),
    ],
)
def test_calls_and_results_match_or_are_refused_at_their_place(
    messages: tuple[Message, ...], told: str, param: str
) -> None:
    made, _ = writer(*messages)
    with pytest.raises(BadRequest, match=told) as refused:
        made.write()
    assert refused.value.param == param
