from collections.abc import Generator

import pytest

from tests.sandbox.sandboxes import PEOPLE, Person, person


@pytest.fixture(params=PEOPLE)
def who(request: pytest.FixtureRequest) -> Generator[Person]:
    with person(request.param) as found:
        yield found


@pytest.fixture
def me() -> Generator[Person]:
    """The user that runs the tests."""
    with person(PEOPLE[0]) as found:
        yield found
