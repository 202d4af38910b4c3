from __future__ import annotations

import pytest

from modelplex.packages.sites import Site, Wanted, read_path

SITES = {
    "pypi.org": (Site("pypi", "/simple"),),
    "files.example:8443": (Site("pypi", None),),
    "registry.example": (Site("npm", ""),),
    "both.example": (Site("pypi", "/api/pypi/simple"), Site("npm", "/api/npm")),
}
WHEEL = "a_b-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("host", "path", "wanted"),
    [
        ("pypi.org", "/simple/", Wanted("pypi", "index")),
        ("PyPI.org", "/simple/A_b/", Wanted("pypi", "page", "a-b")),
        ("pypi.org", "/simple/a.b", Wanted("pypi", "page", "a-b")),
        ("files.example:8443", f"/x/y/{WHEEL}", Wanted("pypi", "file", "a-b", "0!1", WHEEL)),
        ("pypi.org", f"/simple/+files/{WHEEL}.metadata", Wanted("pypi", "metadata", "a-b", "0!1", WHEEL)),
        ("registry.example", "/lodash", Wanted("npm", "page", "lodash")),
        ("registry.example", "/@a%2fb", Wanted("npm", "page", "@a/b")),
        ("registry.example", "/@a/b", Wanted("npm", "page", "@a/b")),
        ("registry.example", "/@a/b/-/b-1.0.0.tgz", Wanted("npm", "file", "@a/b", "1.0.0", "b-1.0.0.tgz")),
        ("both.example", "/api/npm/x", Wanted("npm", "page", "x")),
        ("both.example", "/api/pypi/simple/x/", Wanted("pypi", "page", "x")),
    ],
)
def test_a_path_says_what_is_wanted(host: str, path: str, wanted: Wanted) -> None:
    assert read_path(SITES, host, path) == wanted


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("other.example", "/simple/a/"),
        ("", "/simple/a/"),
        ("pypi.org", "/pypi/a/json"),
        ("pypi.org", "/simplex/a/"),
        ("pypi.org", "/simple/a/b/"),
        ("pypi.org", "/simple//a//"),
        ("pypi.org", "/simple/a%00/"),
        ("pypi.org", "/simple/a%0d%0ax/"),
        ("pypi.org", "/simple/" + "a" * 2000),
        ("pypi.org", "/simple/x/a-latest.tar.gz"),
        ("files.example:8443", "/simple/a/"),
        ("files.example:8443", f"/{WHEEL}%00"),
        ("registry.example", "/-/npm/v1/security/audits"),
        ("registry.example", "/lodash/1.0.0"),
        ("registry.example", "/lodash/-/other-1.0.0.tgz"),
        ("registry.example", "/lodash/-/lodash-1.0.0.tgz.secret"),
        ("registry.example", "/lodash/-/lodash-01.tgz"),
        ("registry.example", "/../lodash"),
        ("both.example", "/lodash"),
    ],
)
def test_other_paths_want_nothing(host: str, path: str) -> None:
    assert read_path(SITES, host, path) is None
