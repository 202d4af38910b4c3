"""Messages of clients: read where they are not too large, and with characters in the place of lone
surrogates.
"""

from __future__ import annotations

from modelplex.mcp.clients.checks import ProtocolRefusal
from modelplex.mcp.clients.message_limits import MAX_VALUES, read


def test_a_lone_surrogate_is_a_character_in_its_place() -> None:
    assert read(rb'{"a":"\ud83d","b":"\\ud83d"}', max_depth=4) == {"a": "\ufffd", "b": "\\ud83d"}
    assert read(bytearray(rb'["\udce9"]'), max_depth=4) == ["\ufffd"]
    for other in (rb'["\ud83d"', b'["\xff"]', b'["\xed\xa0\x80"]'):
        assert isinstance(read(other, max_depth=4), ProtocolRefusal)


def test_so_many_values_are_read_and_no_more() -> None:
    most = b"[" + b",".join([b"1"] * (MAX_VALUES - 1)) + b"]"
    assert not isinstance(read(most, max_depth=4), ProtocolRefusal)
    assert isinstance(read(most.replace(b"[", b"[1,1,"), max_depth=4), ProtocolRefusal)
