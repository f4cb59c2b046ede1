import pytest

from service.errors import Problem
from service.strict_json import MAX_DEPTH, read_strict


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": 1, "a": 2}', "once"),
        (b'{"a": {"b": 1, "b": 1}}', "once"),
        (b'{"MARKED": 1, "\\u004dARKED": 2}', "once"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "NaN"),
        (b'{"a": -Infinity}', "NaN"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deep"),
        (b'{"a":' * 100_000, "deep"),
        (b'{"a": 1} x', "JSON"),
        (b'{"a": 1,}', "JSON"),
        (b"{'a': 1}", "JSON"),
        (b'{"a": 01}', "JSON"),
        (b'{"a": "\\ud800"}', "JSON"),
        (b'{"a": "\xff"}', "JSON"),
        (b"\xef\xbb\xbf{}", "JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON"),
        (b"", "JSON"),
    ],
)
def test_what_lenient_parsers_accept_is_refused_in_words_of_this_module(body, said):
    with pytest.raises(Problem) as caught:
        read_strict(body)
    assert caught.value.status_code == 422
    (place,) = caught.value.places
    assert said in place.msg
    assert "MARKED" not in place.msg


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": [1, 2.5, null, true, "\\u00e9"]} ', {"a": [1, 2.5, None, True, "é"]}),
        (b'{"a": 1, "A": 2}', {"a": 1, "A": 2}),
        (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (b'"text with {\\"a\\": 1, \\"a\\": 2} and NaN inside"', 'text with {"a": 1, "a": 2} and NaN inside'),
    ],
)
def test_json_is_read(body, value):
    assert read_strict(body) == value
