from modelplex.limits.shared.advance import SPARE, SPARE_AGENTS, Advance
from tests.limits.shared.scripted import account

X = (account("x"),)


def test_as_many_requests_are_wanted_as_came_since_the_last_time() -> None:
    advance = Advance()
    assert list(advance.wanted()) == []
    advance.asked(X)
    advance.asked(X)
    assert list(advance.wanted()) == [(X, 2)]
    advance.has("x", 2)
    assert advance.take("x")
    assert list(advance.wanted()) == [(X, 0)]
    advance.has("x", 0)
    assert list(advance.wanted()) == []
    advance.has("x", 3)  # forgotten meanwhile
    assert not advance.take("x")
    assert not advance.take("y")


def test_what_is_reserved_is_used_once_and_forgotten_with_the_lease() -> None:
    advance = Advance()
    for _ in range(100):
        advance.asked(X)
    assert list(advance.wanted()) == [(X, SPARE)]
    advance.has("x", 2)
    assert [advance.take("x") for _ in range(3)] == [True, True, False]
    advance.has("x", 2)
    advance.forget()
    assert not advance.take("x")


def test_it_is_reserved_for_a_bounded_number_of_agents() -> None:
    advance = Advance()
    for number in range(SPARE_AGENTS + 5):
        advance.asked((account(str(number)),))
    assert len(list(advance.wanted())) == SPARE_AGENTS
