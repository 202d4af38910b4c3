"""Results find their calls by id, by name, or in order."""

from modelplex.dialects.core.pending_calls import PendingCalls


def pending(*calls: tuple[str, str]) -> PendingCalls[int]:
    made: PendingCalls[int] = PendingCalls()
    for n, (id_, name) in enumerate(calls):
        made.add(id_, name, n)
    return made


def test_a_call_is_found_by_its_id_before_its_name() -> None:
    calls = pending(("a", "f"), ("b", "f"), ("c", "g"))
    assert calls.take("b", "f") == 1
    assert calls.take("unknown", "f") == 0
    assert calls.take(None, "f") is None
    assert calls.take("c", None) == 2
    assert calls.take("c", None) is None


def test_only_a_result_without_a_name_takes_the_first_of_all() -> None:
    calls = pending(("a", "f"), ("b", "g"))
    assert calls.take(None, None) is None
    assert calls.take(None, "absent", or_any=True) is None
    assert [calls.take(None, None, or_any=True) for _ in range(3)] == [0, 1, None]


def test_an_id_that_is_used_twice_is_taken_in_order() -> None:
    calls = pending(("a", "f"), ("a", "g"))
    assert [calls.take("a", None) for _ in range(3)] == [0, 1, None]


def test_a_call_that_was_taken_by_id_is_passed_over_by_name() -> None:
    calls = pending(("a", "f"), ("b", "f"))
    assert calls.take("a", None) == 0
    assert repr(calls) == "<PendingCalls 1>"
    assert calls.take(None, "f") == 1
