from __future__ import annotations

import base64

import pytest

from modelplex.packages.allow_list import (
    AllowedVersion,
    AllowList,
    ListedPackage,
    LockedPackage,
    hashes_of,
    hex_hash,
    integrity_hashes,
    read_entry,
)

ONE, TWO = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def test_only_what_is_named_is_allowed() -> None:
    allowed = AllowList(
        [LockedPackage("pypi", "a", "0!1", (ONE,))],
        [ListedPackage("pypi", "b"), ListedPackage("npm", "c", "1.0.0")],
    )
    assert allowed.version("pypi", "a", "0!1") == AllowedVersion(frozenset({ONE}))
    assert allowed.version("pypi", "a", "0!2") is None
    assert allowed.version("npm", "a", "0!1") is None
    assert allowed.version("pypi", "b", "0!9") == AllowedVersion()
    assert allowed.version("npm", "c", "1.0.0") == AllowedVersion()
    assert allowed.version("npm", "c", "1.0.1") is None
    assert [allowed.has_name("pypi", name) for name in ("a", "b", "c")] == [True, True, False]


def test_a_lock_without_hashes_does_not_open_what_another_pins() -> None:
    allowed = AllowList(
        [LockedPackage("pypi", "a", "0!1", (ONE,)), LockedPackage("pypi", "a", "0!1")],
        [ListedPackage("pypi", "a")],
    )
    version = allowed.version("pypi", "a", "0!1")
    assert version is not None
    assert version.accepts([ONE])
    assert not version.accepts([TWO])


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("pypi:Flask", ListedPackage("pypi", "flask")),
        ("pypi:a==1.0.0", ListedPackage("pypi", "a", "0!1")),
        ("npm:@a/b", ListedPackage("npm", "@a/b")),
        ("npm:@a/b@1.2.3", ListedPackage("npm", "@a/b", "1.2.3")),
    ],
)
def test_an_entry_of_the_host_is_read(text: str, entry: ListedPackage) -> None:
    assert read_entry(text) == entry


@pytest.mark.parametrize(
    "text", ["six", "cargo:a", "pypi:", "pypi:a==x", "npm:a@latest", "npm:a/b", "pypi:a b"]
)
def test_a_wrong_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no package: write"):
        read_entry(text)


def test_weak_and_broken_hashes_are_no_hashes() -> None:
    assert hex_hash("SHA256", "A" * 64) == ONE
    assert hex_hash("md5", "a" * 32) is None
    assert hex_hash("sha1", "a" * 40) is None
    assert hex_hash("sha256", "a" * 63) is None
    assert hex_hash("sha256", "g" * 64) is None
    assert hashes_of({"sha256": "a" * 64, "md5": "a" * 32, "sha512": 1}) == (ONE,)


def test_an_integrity_is_read() -> None:
    good = base64.b64encode(b"\xaa" * 32).decode()
    assert integrity_hashes(f"sha1-AAAA sha256-{good}?x sha512-!!") == (ONE,)
