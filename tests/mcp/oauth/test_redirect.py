import pytest

from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.redirect import RedirectAnswer


async def test_an_answer_needs_the_state_and_the_issuer() -> None:
    answer = RedirectAnswer("https://a", iss_promised=True)
    assert not answer.take("/callback?code=c&state=other")
    assert answer.take(f"/callback?code=c&state={answer.state}&iss=https%3A%2F%2Fa")
    assert await answer.code() == "c"


@pytest.mark.parametrize(
    "query", ["code=c", "code=c&iss=https://b", "error=x&iss=https://b", "iss=https://a"]
)
async def test_an_answer_of_another_server_is_refused(query: str) -> None:
    answer = RedirectAnswer("https://a", iss_promised=True)
    assert answer.take(f"/callback?{query}&state={answer.state}")
    with pytest.raises(CredentialError) as refused:
        await answer.code()
    assert str(refused.value) != "x"
