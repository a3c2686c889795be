import json

import pytest

from tx_jax.data.json_values import json_values
from tx_jax.errors import InputError

VALUES = [{"text": 'Ay, "no" \\ [ ] { } ñ 😀\n', "n": [1, 2.5e3, {"a": None}]}, 12, "x", [], {}, True, -0.5]


def pieces(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_an_array_in_pieces_gives_its_items(size, indent, ascii_only):
    text = json.dumps(VALUES, indent=indent, ensure_ascii=ascii_only)
    assert [value for _, value in json_values(pieces(f" {text}\n", size), "a")] == VALUES
    assert list(json_values(pieces(" [ ] ", size), "a")) == []
    assert list(json_values(pieces("\n ", size), "a")) == []


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_values_in_a_row_come_with_their_lines(size):
    text = "\n".join(json.dumps({"n": i}, indent=1) for i in range(4))
    assert list(json_values(pieces(text, size), "a")) == [(1 + 3 * i, {"n": i}) for i in range(4)]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{"a": 1}\n{"a": 2}]', r"a.json, line 3: not valid JSON \(expected a comma or the end of the array\)"),
        ('[{"a": 1},\n', r"line 2: .*the array has no end: the file is cut off"),
        ('[{"a": 1}]\nmore', "line 2: .*text after the end of the array"),
        ('[{"a": 1},,{}]', "line 1: .*Expecting value"),
        ('[{"a":\n "b', r"line 2: .*Unterminated string"),
        ('[{"a" 1}, {"long enough": "that the error is not near the end"}]', "line 1: .*Expecting ':' delimiter"),
    ],
)
def test_what_is_not_json_is_an_error_with_the_line(size, text, message):
    with pytest.raises(InputError, match=message):
        list(json_values(pieces(text, size), "a.json"))


def test_nan_is_none():
    assert [value for _, value in json_values(['[{"a": NaN}, Infinity]'], "a")] == [{"a": None}, float("inf")]


def test_values_nested_too_deeply_are_an_error():
    with pytest.raises(InputError, match="nested too deeply"):
        list(json_values(["[" * 200_000], "a.json"))


def test_no_more_is_read_than_the_next_value_needs():
    read = 0

    def chunks():
        nonlocal read
        for chunk in pieces(json.dumps([{"text": "word " * 20}] * 1000), 64):
            read += len(chunk)
            yield chunk

    one = len(json.dumps({"text": "word " * 20}))
    for number, _ in enumerate(json_values(chunks(), "a"), start=1):
        assert read <= 2 * one + number * (one + 2) + 128


def test_a_long_value_is_decoded_few_times(monkeypatch):
    """One decoding for every chunk would take time by the square of the length."""
    from tx_jax.data import json_values as module

    calls = 0

    class Counting(json.JSONDecoder):
        def raw_decode(self, *args):
            nonlocal calls
            calls += 1
            return super().raw_decode(*args)

    monkeypatch.setattr(module.json, "JSONDecoder", Counting)
    text = json.dumps([{"text": "x" * 100_000}])
    assert len(list(json_values(pieces(text, 10), "a"))) == 1
    assert calls < 20
