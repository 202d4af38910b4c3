from modelplex.mcp.oauth.sign_in import RegisteredClient, SignIn


def made(**more: object) -> SignIn:
    fields = {
        "server": "https://x",
        "resource": "https://x",
        "token_endpoint": "https://a/t",
        "client": RegisteredClient(id="c", issuer="https://a"),
        "access_token": "t0ken",
        "obtained_at": 0.0,
        "expires_at": 100.0,
    }
    return SignIn(**{**fields, **more})  # type: ignore[arg-type]


def test_a_token_is_renewed_before_its_end() -> None:
    assert made().is_fresh(79.0)
    assert not made().is_fresh(81.0)
    assert made().holds(99.0)
    assert not made().holds(100.0)
    assert made(expires_at=None).holds(1e12)


def test_a_sign_in_that_has_ended_is_of_no_use() -> None:
    assert made(refresh_token="r").is_usable(200.0)
    assert not made().is_usable(200.0)
    assert not made(ended="invalid_grant").is_usable(1.0)
    assert "t0ken" not in repr(made())
