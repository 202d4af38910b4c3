from __future__ import annotations

import json

import pytest

from modelplex.packages.allow_list import LockedPackage
from modelplex.packages.lock_files import (
    BrokenLock,
    LockedAddress,
    read_package_lock,
    read_poetry_lock,
    read_pylock,
    read_requirements,
    read_uv_lock,
)
from tests.packages.indexes import integrity

HEX = "a" * 64
HASH = f"sha256:{HEX}"


def test_pins_of_requirements_are_read() -> None:
    lock = read_requirements(
        f"""# a comment
--index-url https://index.example/simple
-r other.txt
One[extra]==1.0 \\
    --hash=sha256:{HEX} \\
    --hash=md5:abc
two == 2.0 ; python_version < "4"  # why
three>=1
four==1.*
git+https://example.com/five
six @ https://example.com/six.whl
"""
    )
    assert lock.packages == (
        LockedPackage("pypi", "one", "0!1", (HASH,)),
        LockedPackage("pypi", "two", "0!2"),
    )
    assert lock.places == {LockedAddress("pypi", "https://index.example/simple")}


def test_uv_lock_is_read() -> None:
    lock = read_uv_lock(
        f"""version = 1
[[package]]
name = "own"
version = "1"
source = {{ editable = "." }}
[[package]]
name = "from-git"
version = "1"
source = {{ git = "https://example.com/x" }}
[[package]]
name = "a"
version = "1.0"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://files.example/a-1.0.tar.gz", hash = "{HASH}" }}
wheels = [{{ url = "https://files.example/a-1.0-py3-none-any.whl", hash = "sha256:{"b" * 64}" }}]
"""
    )
    assert lock.packages == (LockedPackage("pypi", "a", "0!1", (f"sha256:{'b' * 64}", HASH)),)
    assert {(place.url, place.is_file) for place in lock.places} == {
        ("https://pypi.org/simple", False),
        ("https://files.example/a-1.0.tar.gz", True),
        ("https://files.example/a-1.0-py3-none-any.whl", True),
    }


def test_poetry_lock_is_read() -> None:
    lock = read_poetry_lock(
        f"""[[package]]
name = "A"
version = "1.0"
files = [{{file = "a-1.0.tar.gz", hash = "{HASH}"}}]
[[package]]
name = "b"
version = "1.0"
files = []
[package.source]
type = "legacy"
url = "https://index.example/simple"
[[package]]
name = "c"
version = "1.0"
[package.source]
type = "git"
url = "https://example.com/c"
"""
    )
    assert [package.name for package in lock.packages] == ["a", "b"]
    assert lock.packages[0].hashes == (HASH,)
    assert lock.places == {LockedAddress("pypi", "https://index.example/simple")}


def test_pylock_is_read() -> None:
    lock = read_pylock(
        f"""lock-version = "1.0"
[[packages]]
name = "a"
version = "1.0"
index = "https://pypi.org/simple"
wheels = [{{name = "a-1.0-py3-none-any.whl", url = "https://files.example/a.whl", hashes = {{sha256 = "{HEX}"}}}}]
[[packages]]
name = "b"
vcs = {{type = "git", url = "https://example.com/b"}}
"""
    )
    assert lock.packages == (LockedPackage("pypi", "a", "0!1", (HASH,)),)
    assert LockedAddress("pypi", "https://pypi.org/simple") in lock.places


def test_package_lock_is_read() -> None:
    text = integrity(b"x")
    packages = {
        "": {"name": "own", "version": "1.0.0"},
        "node_modules/@a/b": {
            "version": "1.2.3",
            "resolved": "https://registry.example/npm/@a/b/-/b-1.2.3.tgz",
            "integrity": text,
        },
        "node_modules/alias": {"name": "real", "version": "2.0.0"},
        "node_modules/x/node_modules/y": {"version": "3.0.0"},
        "node_modules/linked": {"link": True, "resolved": "packages/linked"},
        "node_modules/from-git": {"version": "1.0.0", "resolved": "git+ssh://git@example.com/x.git#abc"},
    }
    lock = read_package_lock(json.dumps({"lockfileVersion": 3, "packages": packages}))
    named = [(package.name, package.version, len(package.hashes)) for package in lock.packages]
    assert named == [("@a/b", "1.2.3", 1), ("real", "2.0.0", 0), ("y", "3.0.0", 0)]
    assert lock.places == {LockedAddress("npm", "https://registry.example/npm")}


def test_an_old_package_lock_is_read() -> None:
    inner = {"b": {"version": "2.0.0", "resolved": "https://r.example/b/-/b-2.0.0.tgz"}}
    old = {"lockfileVersion": 1, "dependencies": {"a": {"version": "1.0.0", "dependencies": inner}}}
    lock = read_package_lock(json.dumps(old))
    assert [(package.name, package.version) for package in lock.packages] == [("a", "1.0.0"), ("b", "2.0.0")]


def test_a_broken_lock_is_an_error() -> None:
    for read in (read_uv_lock, read_poetry_lock, read_pylock, read_package_lock):
        with pytest.raises(BrokenLock):
            read("{[")
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"a": {"version": "1.0.0", "dependencies": deep}}
    with pytest.raises(BrokenLock, match="nested"):
        read_package_lock(json.dumps({"dependencies": deep}))
    with pytest.raises(BrokenLock):
        read_package_lock("[" * 100_000)


@pytest.mark.parametrize("text", ["package = 1", "package = [1]", '[[package]]\nname = 1\nsource = "x"'])
def test_members_of_other_types_are_left_out(text: str) -> None:
    assert read_uv_lock(text).packages == read_poetry_lock(text).packages == ()
    assert read_package_lock('{"packages": {"node_modules/a": 1}}').packages == ()
