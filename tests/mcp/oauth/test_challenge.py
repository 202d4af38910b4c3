from time import perf_counter

import pytest

from modelplex.mcp.oauth.challenge import MAX_SCOPES, Challenge, read_challenge, union


def test_a_bearer_challenge_is_read_among_others() -> None:
    value = b'Basic realm="x", Bearer error="insufficient_scope", scope="a  b", resource_metadata="https://x/\\"m"'
    found = read_challenge(403, [b"Negotiate", value])
    assert found == Challenge(403, error="insufficient_scope", scope="a b", metadata='https://x/"m')
    assert found is not None
    assert found.wants_more
    assert read_challenge(401, [b"Basic realm=x"]) is None


def test_a_union_has_each_scope_once_and_nothing_else() -> None:
    assert union("a b", 'b c "d') == "a b c"


@pytest.mark.parametrize(
    "value",
    [
        "a" * 60_000,
        "a=" * 30_000,
        'a="' * 20_000,
        " " * 60_000,
        "a " * 30_000,
        'a="\\' * 15_000,
        "a" + " " * 60_000,
    ],
)
def test_a_header_of_any_form_is_read_in_one_pass(value: str) -> None:
    """Each of these took a time that grew with the square of its length, or might."""
    began = perf_counter()
    read_challenge(401, [b"Bearer " + value.encode()])
    assert perf_counter() - began < 5.0  # it was half a minute


def test_a_union_is_bounded() -> None:
    assert len(union(" ".join(map(str, range(1000)))).split()) == MAX_SCOPES
    assert union("a\x00b", "x" * 257, "ok") == "ok"
