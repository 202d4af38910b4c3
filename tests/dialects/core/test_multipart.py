"""The field `model` of a multipart form, found among other bytes."""

import pytest

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.multipart import MAX_HEAD, MAX_PARTS, find_model

TYPE = "multipart/form-data; boundary=b1"


def form(*parts: tuple[str, bytes], boundary: str = "b1") -> bytes:
    body = b""
    for head, value in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + value + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


FILE = ('name="file"; filename="a.wav"\r\nContent-Type: audio/wav', b'RIFF\r\n--b2 name="model"\r\n\r\nx')


@pytest.mark.parametrize("name", ['name="model"', "name=model", 'NAME="model"', 'x="y"; name="model"; z=1'])
@pytest.mark.parametrize("type_", [TYPE, 'multipart/form-data; charset=x; BOUNDARY="b1"'])
def test_the_value_is_found_wherever_it_stands(name: str, type_: str) -> None:
    for body in (form((name, b"whisper"), FILE), form(FILE, (name, b"whisper"))):
        start, end = find_model(body, type_)
        assert body[start:end] == b"whisper"


@pytest.mark.parametrize(
    ("body", "type_", "message"),
    [
        (form(FILE), TYPE, "no 'model'"),
        (form(("name=model", b"a"), ("name=model", b"b")), TYPE, "twice"),
        (form(("name=model", b"a")), "multipart/form-data", "no boundary"),
        (form(("name=model", b"a"))[:-20], TYPE, "not whole"),
        (form(('name="x"' + " " * MAX_HEAD, b"a")), TYPE, "bytes of headers"),
        (form(*[('name="x"', b"a")] * (MAX_PARTS + 1)), TYPE, "more than"),
        (b"", TYPE, "no 'model'"),
    ],
)
def test_other_forms_are_refused(body: bytes, type_: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        find_model(body, type_)


def test_a_form_of_as_many_parts_as_allowed_is_read() -> None:
    body = form(*[('name="x"', b"a")] * (MAX_PARTS - 2), ("name=model", b"m"))
    start, end = find_model(body, TYPE)
    assert body[start:end] == b"m"
