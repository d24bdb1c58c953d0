"""Tokens: unguessable, told apart from noise without a database, hashed at rest."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.auth.tokens import PATTERN, TokenKind, digest_of, kind_of, new_token
from server.errors import Unauthenticated

KINDS = st.sampled_from(TokenKind)
BASE62 = string.digits + string.ascii_letters


@given(KINDS)
def test_a_new_token_is_of_its_kind_and_fits_the_published_pattern(kind: TokenKind) -> None:
    token = new_token(kind)

    assert kind is kind_of(token.secret)
    assert PATTERN.fullmatch(token.secret)
    assert digest_of(token.secret) == token.digest


@given(KINDS, st.data())
def test_one_changed_character_is_refused(kind: TokenKind, data: st.DataObject) -> None:
    secret = new_token(kind).secret
    place = data.draw(st.integers(0, len(secret) - 1))
    other = data.draw(st.characters())
    assume(other != secret[place])

    with pytest.raises(Unauthenticated):
        kind_of(secret[:place] + other + secret[place + 1 :])


@given(st.text() | st.from_regex(PATTERN, fullmatch=True) | st.text(alphabet=BASE62).map("twh_k_".__add__))
def test_noise_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        kind_of(text)


@given(KINDS)
def test_what_is_shown_of_a_token_gives_it_away_to_nobody(kind: TokenKind) -> None:
    token = new_token(kind)

    assert token.secret.startswith(token.prefix)
    # 27 random characters less those shown leave more than 120 bits.
    assert len("twh_k_") + 6 == len(token.prefix)
    assert token.secret not in repr(token)
    assert token.secret.encode() not in token.digest


def test_tokens_are_never_the_same() -> None:
    assert 1000 == len({new_token(TokenKind.API_KEY).secret for _ in range(1000)})
