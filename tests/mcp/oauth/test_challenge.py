from modelplex.mcp.oauth.challenge import Challenge, read_challenge, union


def test_a_bearer_challenge_is_read_among_others() -> None:
    value = b'Basic realm="x", Bearer error="insufficient_scope", scope="a  b", resource_metadata="https://x/\\"m"'
    found = read_challenge(403, [b"Negotiate", value])
    assert found == Challenge(403, error="insufficient_scope", scope="a b", metadata='https://x/"m')
    assert found is not None
    assert found.wants_more
    assert read_challenge(401, [b"Basic realm=x"]) is None


def test_a_union_has_each_scope_once_and_nothing_else() -> None:
    assert union("a b", 'b c "d') == "a b c"
