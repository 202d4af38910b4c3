"""The table [server]."""

import pytest

from tests.config.configs import fault


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("[server]\nhttp = 8080", "server.http: expected an address, or a list of them, found a number"),
        ('[server]\nhttp = [":1", ":1"]', "found one of them twice"),
        ("[server]\nsocket_mode = 432", 'octal digits in quotes, such as "0660", found 432'),
        ('[server]\nsocket_mode = "0888"', "server.socket_mode"),
        ("[server]\nmax_request_size = true", "found true"),
        ("[server]\nmax_request_size = 0", "a whole number from 1"),
        ("[server]\nmax_request_size = 1.5", "found 1.5"),
        (
            "[server]\nmax_body_memory_per_caller = 5",
            "expected at least 33554432 bytes, which is [server] max_request_size, found 5",
        ),
        (
            "[server]\nmax_request_size = 10\nmax_body_memory = 19",
            "expected at least 20 bytes, which is twice the share of one caller, found 19",
        ),
        ("[server]\nkeep_alive = 0", "expected seconds, a number above 0, found 0"),
        ("[server]\nkeep_alive = inf", "found inf"),
        ("[server]\nkeep_alive = nan", "found nan"),
        ("[server]\nkeep_alive = 1e9", "at most 10000000"),
        ('[server]\nallowed_hosts = ["http://x"]', "without scheme and port"),
        ('[server]\nallowed_origins = ["x"]', 'an origin such as "https://app.example.com"'),
        ('[server]\nlog_level = "warn"', 'did you mean "warning"?'),
        ('[server]\nsocket = "a\\u0007"', "a control character in it"),
        ('[server]\nsocket = " "', "found an empty string"),
    ],
)
def test_a_wrong_value_is_reported_with_the_expected_one(text: str, report: str) -> None:
    assert report in fault(text)
