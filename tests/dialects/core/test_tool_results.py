"""Neighbouring tool results are one message."""

from modelplex.core.request import Message, TextPart, ToolResultPart
from modelplex.dialects.core.tool_results import joined_results


def result(id_: str, path: str) -> Message:
    return Message("tool", (ToolResultPart(id_, ()),), path=path)


def test_a_run_of_results_is_joined_at_the_path_of_the_first() -> None:
    hi = Message("user", (TextPart("Hi"),))
    messages = [result("a", "m[0]"), result("b", "m[1]"), hi, hi, result("c", "m[4]")]
    joined = list(joined_results(messages))
    assert [message.role for message in joined] == ["tool", "user", "user", "tool"]
    first, _, _, last = joined
    assert [part.id for part in first.parts if isinstance(part, ToolResultPart)] == ["a", "b"]
    assert (first.path, last.path) == ("m[0]", "m[4]")
    assert last is messages[4]
    assert list(joined_results([])) == []
