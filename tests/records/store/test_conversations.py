"""Runs and conversations: which call extends which."""

from __future__ import annotations

from collections.abc import Sequence

from modelplex.records.store import conversations
from modelplex.records.store.conversations import Call, Conversations, KnownCall, Recent
from modelplex.records.store.rows import Placement


class Nothing:
    """A store without calls."""

    def by_turns(self, turns: Sequence[bytes], /) -> KnownCall | None:
        return None

    def by_response(self, response_id: str, /) -> KnownCall | None:
        return None


nothing = Nothing()


def call(
    id: str, turns: str = "", *, at: float = 0.0, context: bytes = b"s", pid: int = 0, **more: str
) -> Call:
    """A conversation whose turns are these letters."""
    path = tuple(turns[: number + 1].encode() for number in range(len(turns)))
    return Call(id=id, at=at, turns=path, context=context, pid=pid, **more)


def test_what_extends_a_call_is_its_child() -> None:
    known = Conversations(nothing)
    assert known.place(call("1", "a")) == Placement("run-1", None, "root")
    assert known.place(call("2", "abc")) == Placement("run-1", "1", "turn")
    assert known.place(call("3", "abcde")) == Placement("run-1", "2", "turn")


def test_another_continuation_is_a_branch_and_the_same_messages_a_retry() -> None:
    known = Conversations(nothing)
    known.place(call("1", "a"))
    known.place(call("2", "abc"))
    assert known.place(call("3", "abx")) == Placement("run-1", "1", "branch")
    assert known.place(call("4", "abx")) == Placement("run-1", "3", "retry")
    assert known.place(call("5", "abc", context=b"title")) == Placement("run-1", "2", "subagent")


def test_the_same_words_much_later_begin_a_conversation() -> None:
    known = Conversations(nothing)
    known.place(call("1", "a"))
    assert known.place(call("2", "a", at=conversations.RETRY_S)) == Placement("run-2", None, "root")


def test_a_process_has_one_run() -> None:
    known = Conversations(nothing)
    known.place(call("1", "abcde", pid=7))
    assert known.place(call("2", "x", pid=7)) == Placement("run-1", None, "compaction")
    assert known.place(call("3", "y", pid=7, context=b"other")) == Placement("run-1", None, "subagent")
    assert known.place(call("4", "z", pid=8)).run == "run-4"
    assert known.place(call("5", pid=7)) == Placement("run-1", None, "other")
    assert known.place(call("6", "vwxyz0", pid=7)) == Placement("run-1", None, "root")


def test_on_tcp_a_conversation_is_a_run_and_tool_calls_follow_it() -> None:
    known = Conversations(nothing)
    known.place(call("1", "a", client="127.0.0.1"))
    assert known.place(call("2", "b", client="127.0.0.1")).run == "run-2"
    tool = call("3", kind="tool", client="127.0.0.1", at=10.0)
    assert known.place(tool) == Placement("run-2", None, "tool")
    late = call("4", kind="tool", client="127.0.0.1", at=10.0 + conversations.IDLE_S)
    assert known.place(late).run == "run-4"


def test_modelplex_run_has_one_run() -> None:
    known = Conversations(nothing, run="run-x")
    assert {known.place(each).run for each in (call("1", "a"), call("2", "b", pid=5), call("3"))} == {"run-x"}


def test_what_is_not_remembered_is_looked_up() -> None:
    asked: list[Sequence[bytes]] = []

    class Stored(Nothing):
        def by_turns(self, turns: Sequence[bytes], /) -> KnownCall | None:
            asked.append(turns)
            return KnownCall("1", "run-1", b"s", 0.0)

        def by_response(self, response_id: str, /) -> KnownCall | None:
            return KnownCall("7", "run-7", None, 0.0) if response_id == "resp_7" else None

    known = Conversations(Stored())
    assert known.place(call("2", "abc")) == Placement("run-1", "1", "turn")
    assert asked == [(b"ab", b"a")]
    known.place(call("3", "a" * 100))
    assert len(asked[-1]) == conversations.MAX_LOOKUP
    assert known.place(call("8", "x", previous="resp_7")) == Placement("run-7", "7", "turn")


def test_a_stored_response_makes_its_call_the_parent() -> None:
    known = Conversations(nothing)
    known.place(call("1", "a", response_id="resp_1"))
    assert known.place(call("2", "b", previous="resp_1", response_id="resp_2")) == Placement(
        "run-1", "1", "turn"
    )
    assert known.place(call("3", "c", previous="resp_2")) == Placement("run-1", "2", "turn")
    assert known.place(call("4", "d", previous="resp_1")) == Placement("run-1", "1", "branch")
    # The same last words elsewhere are another conversation.
    assert known.place(call("5", "b", at=1.0)) == Placement("run-5", None, "root")
    # One that is not known any more begins one.
    assert known.place(call("6", "e", previous="resp_0", at=2.0)) == Placement("run-6", None, "root")


def test_what_was_not_written_is_forgotten() -> None:
    known = Conversations(nothing)
    known.place(call("1", "a"))
    known.forget()
    assert known.place(call("2", "abc")).relation == "root"


def test_memory_is_bounded() -> None:
    recent: Recent[int, int] = Recent(3)
    for number in range(5):
        recent.put(number, number)
        recent.get(0)
    assert len(recent) == 3
    assert recent.get(0) == 0
    assert recent.get(1) is None
