from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from modelplex.packages.names import normal_name, normal_version, of_file, tarball_name

VERSIONS = (
    *("1", "1.0", "1.0.0", "1.1", "v1.0", "1!1.0", "1.0a1", "1.0.alpha.1", "1.0b", "1.0-rc.2", "1.0c2"),
    *(
        "1.0.post1",
        "1.0-1",
        "1.0.rev2",
        "1.0.dev3",
        "1.0.DEV",
        "1.0+abc.1",
        "1.0+Abc-1",
        "2024.01.02",
        "0",
        "01.2",
    ),
)


def test_versions_are_compared_as_pypi_does() -> None:
    for one in VERSIONS:
        for two in VERSIONS:
            same = normal_version("pypi", one) == normal_version("pypi", two)
            assert same == (Version(one) == Version(two)), (one, two)


@pytest.mark.parametrize(
    "text", ["", "latest", "1.0; rm", "1..0", "1.0 2", "1.0\n2", "é1", "9" * 300, "1.0/../2"]
)
def test_what_is_no_version_has_no_normal_form(text: str) -> None:
    assert normal_version("pypi", text) is None
    assert normal_version("npm", text) is None


@pytest.mark.parametrize("name", ["Flask", "zope.interface", "a__b--c..d", "A_b", "x"])
def test_names_are_compared_as_pypi_does(name: str) -> None:
    assert normal_name("pypi", name) == canonicalize_name(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a b", "a/b", "a%2fb", "../a", "a\n", "é", "a" * 215, "@a/b"]
)
def test_what_is_no_name_of_pypi_has_no_normal_form(name: str) -> None:
    assert normal_name("pypi", name) is None


@pytest.mark.parametrize("name", ["lodash", "@types/node", "JSONStream", "socket.io", "a_b", "~x"])
def test_names_of_npm_stay(name: str) -> None:
    assert normal_name("npm", name) == name


@pytest.mark.parametrize(
    "name", ["", "@a", "a/b", "@a/b/c", ".x", "_x", "a b", "@/a", "a?b", "a\r", "@a/../b"]
)
def test_what_is_no_name_of_npm_has_no_normal_form(name: str) -> None:
    assert normal_name("npm", name) is None


@pytest.mark.parametrize(
    "filename", ["my_pkg-1.0-py3-none-any.whl", "A.B-2.0.post1-1-cp311-cp311-manylinux1_x86_64.whl"]
)
def test_the_name_of_a_wheel_says_what_it_is(filename: str) -> None:
    name, version, *_ = parse_wheel_filename(filename)
    assert of_file(filename) == (name, normal_version("pypi", str(version)))


def test_the_name_of_an_archive_says_what_it_is() -> None:
    name, version = parse_sdist_filename("my-pkg-1.0.tar.gz")
    assert of_file("my-pkg-1.0.tar.gz") == (name, normal_version("pypi", str(version)))
    assert of_file("a-1.0.exe") is None
    assert of_file("a-1.0-none.whl") is None
    assert of_file("a-latest.tar.gz") is None


def test_the_archive_of_a_scoped_package_has_no_scope() -> None:
    assert tarball_name("@types/node", "1.2.3") == "node-1.2.3.tgz"
