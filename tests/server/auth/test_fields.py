"""What may be typed into the fields of an account."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth.fields import check_email, check_label, clean_header, is_email
from server.errors import InvalidInput


@pytest.mark.parametrize(
    "text",
    [
        "a@b.example",
        "First.Last+tag@mail.example.co.uk",
        "o'neil@example.com",
        "user@xn--bcher-kva.example",
        "jürgen@bücher.example",
        "用户@例子.广告",
        "a" * 64 + "@" + "b" * 63 + ".example",
        "1@2.museum",
    ],
)
def test_addresses_of_people_are_taken(text: str) -> None:
    check_email(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a@",
        "@b.example",
        "a@b",
        "a.b.example",
        "a@@b.example",
        "a b@c.example",
        "a@b .example",
        " a@b.example",
        "a@b.example\n",
        "a\0@b.example",
        "\ud800@b.example",
        ".a@b.example",
        "a..b@c.example",
        "a@-b.example",
        "a@b-.example",
        "a@b..example",
        "a@b_c.example",
        "a@b.123",
        "a@127.0.0.1",
        "a" * 65 + "@b.example",
        "a@" + "b" * 64 + ".example",
        "a@" + "b.example." * 30 + "com",
        "a\u200b@b.example",
        "<a@b.example>",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_email(text)

    assert ("email",) == refused.value.path


@given(st.text(alphabet="ab.-_@ é\0\ud800", max_size=300))
def test_any_text_is_judged_quickly(text: str) -> None:
    if is_email(text):
        assert 1 == text.count("@")
        assert text.isprintable()


@pytest.mark.parametrize("text", ["", " ", "x" * 11, "two\nlines", "\0", "\ud800", "\u200b"])
def test_a_label_has_visible_characters_and_an_end(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_label(text, field="name", max_characters=10)

    assert ("name",) == refused.value.path


def test_a_label_may_be_any_words() -> None:
    check_label("Ключ 🔑 1", field="name", max_characters=10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", None), ("\0\x1b", None), ("Agent\n/1", "Agent/1"), ("x" * 9, "x" * 8)],
)
def test_a_header_is_cut_to_what_can_be_shown(value: str | None, expected: str | None) -> None:
    assert expected == clean_header(value, max_characters=8)
