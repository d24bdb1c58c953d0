"""JSON in and out."""

import json

import numpy as np
import pytest

from server.graphql.scalars import float_matrix
from server.graphql.wire import answer_format, decode_json, encode_json


def test_half_a_surrogate_pair_is_left_for_the_field_to_refuse() -> None:
    assert {"text": "a\ud800"} == decode_json(b'{"text": "a\\ud800"}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"a": "\xff"}',
        b"[" * 200_000,
        b'["\\ud800", ' + b"[" * 200_000,
        b'["\\ud800", NaN]',
        b'["\\ud800", ' + b"1" * 5000 + b"]",
        b"NaN",
        "[" * 200_000,
    ],
)
def test_what_is_no_json_is_refused_in_one_way(body: str | bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        decode_json(body)


def test_half_a_surrogate_pair_can_be_quoted_in_an_answer() -> None:
    assert b'{"message":"\\ud800"}' == encode_json({"message": "\ud800"})
    assert b'{"m":"\\ud800","v":[[1.0]]}' == encode_json({"m": "\ud800", "v": np.ones((1, 1), np.float32)})


def test_a_matrix_is_written_with_the_digits_of_float32() -> None:
    rows = np.array([[0.1, -1.5], [1e-8, 3.0]], dtype=np.float32)

    assert b"[[0.1,-1.5],[1e-8,3.0]]" == encode_json(float_matrix(rows))


def test_a_failed_row_is_null() -> None:
    rows = np.array([[0.5], [0.0], [1.0]], dtype=np.float32)

    assert b"[[0.5],null,[1.0]]" == encode_json(float_matrix(rows, [1]))


def test_an_array_that_is_not_contiguous_is_written_too() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2]

    assert b"[[0.0,2.0],[3.0,5.0]]" == encode_json(float_matrix(rows))


@pytest.mark.parametrize(
    ("accept", "media_type", "always_ok"),
    [
        ("application/graphql-response+json", "application/graphql-response+json", False),
        (
            "application/graphql-response+json, application/json;q=0.9",
            "application/graphql-response+json",
            False,
        ),
        ("application/json", "application/json", True),
        ("*/*", "application/json", False),
        ("", "application/json", False),
    ],
)
def test_the_answer_has_the_type_that_was_asked_for(accept: str, media_type: str, always_ok: bool) -> None:
    chosen = answer_format(accept)

    assert (f"{media_type}; charset=utf-8", always_ok) == (chosen.media_type, chosen.always_ok)
