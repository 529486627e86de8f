"""JSON of users: each bad line alone fails, whatever is wrong with it."""

import pytest
from refused import refused
from unisono.errors import DataError, RequestError
from unisono.files import Fault, parse_json, read_json, read_json_lines

BAD = {
    "digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "nested": b'{"text": ' + b"[" * 100_000,
    "nested and closed": b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "cut": b'{"text": ',
    "list": b"[1, 2]",
    "latin": b'{"text": "caf\xe9"}',
    "nul": b'{"text": "\0"}',
    "two": b'{"a": 1} {"b": 2}',
    "a key twice": b'{"text": "a", "b": {"c": 1, "c": 2}}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_alone_fails(tmp_path, name):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n' + BAD[name] + b'\n{"text": "a\xe2\x80\xa8b"}')
    rows = list(read_json_lines(path))
    assert [number for number, _ in rows] == [1, 3, 4]
    assert rows[0][1] == {"text": "one"} and rows[2][1] == {"text": "a\u2028b"}
    fault = rows[1][1]
    assert isinstance(fault, Fault) and fault.line == 3 and fault.path == path
    assert fault.reason in ("not JSON", "invalid UTF-8", "not text") and len(str(fault)) < 400


@pytest.mark.parametrize(
    ("name", "said"), [("digits", "a number of more than 4300 digits"), ("nested", "it is nested too deeply")]
)
def test_a_value_is_one_sentence(tmp_path, name, said):
    with refused(RequestError, "format", value=f"not JSON ({said})", names="mend it") as error:
        parse_json(BAD[name].decode(), kind=RequestError)
    assert error.value.fault is not None and error.value.fault.reason == "not JSON"
    (tmp_path / "x.json").write_bytes(BAD[name])
    with refused(DataError, "format", "x.json", value=f"not JSON ({said})"):
        read_json(tmp_path / "x.json")


def test_the_place_is_named():
    with refused(DataError, "format", names="line 4: not JSON (Expecting value at column 7)") as error:
        parse_json('{"a": x}', line=4)
    assert error.value.fault.line == 4 and error.value.path is None
    with refused(DataError, "format", names="line 2"):
        parse_json('{"a":\n x}')
    assert parse_json('{"a": "\\ud83d"}') == {"a": "\ud83d"}
