"""Host and Origin on a port: no name that a web page can own is served."""

import pytest

from modelplex.core.errors import Misdirected, PolicyDenied
from modelplex.server.origin import Hosts


@pytest.mark.parametrize("host", ["modelplex:11435", "nas", "gateway-1", "my_service:80", "a" * 63])
def test_a_name_without_a_dot_is_served_only_where_ports_are_published(host: str) -> None:
    Hosts(single_labels=True).check(host, None)
    with pytest.raises(Misdirected):
        Hosts().check(host, None)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "nas.evil.example",
        "nas.",
        ".nas",
        "",
        "-",
        "a" * 64,
        "n\u00e4s",
        "a b",
        "x@nas",
    ],
)
def test_other_names_are_refused_where_ports_are_published(host: str) -> None:
    with pytest.raises(Misdirected):
        Hosts(single_labels=True).check(host, None)


def test_an_origin_without_a_dot_is_refused() -> None:
    with pytest.raises(PolicyDenied):
        Hosts(single_labels=True).check("nas", "http://nas")
