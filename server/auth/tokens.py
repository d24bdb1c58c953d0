"""The opaque strings that callers carry: ``twh_<kind>_<27 random base62><6 base62 of CRC-32>``.

27 characters of base62 hold 160.7 bits. The checksum lets a secret scanner, and us, tell a token from
noise without a database. The published pattern is ``twh_[sk]_[0-9A-Za-z]{33}``.
"""

import hashlib
import re
import secrets
import string
import zlib
from enum import StrEnum

import msgspec

from server.errors import Unauthenticated

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARACTERS = 27
_CHECKSUM_CHARACTERS = 6
#: How much of a key is stored and shown, so that its owner recognises it: 36 of its 160 bits.
_PREFIX_CHARACTERS = len("twh_k_") + 6

PATTERN = re.compile(rf"twh_([sk])_[0-9A-Za-z]{{{_RANDOM_CHARACTERS + _CHECKSUM_CHARACTERS}}}")


class TokenKind(StrEnum):
    """What a token stands for."""

    SESSION = "s"
    API_KEY = "k"


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was just made. Only ``digest`` and ``prefix`` are stored."""

    secret: str
    digest: bytes
    prefix: str

    def __repr__(self) -> str:
        return f"NewToken(prefix={self.prefix!r})"


def new_token(kind: TokenKind) -> NewToken:
    """Make a token out of the system's randomness."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))
    head = f"twh_{kind.value}_{body}"
    secret = head + _checksum(head)
    return NewToken(secret=secret, digest=digest_of(secret), prefix=secret[:_PREFIX_CHARACTERS])


def digest_of(secret: str) -> bytes:
    """Return what is stored of a token.

    Plain SHA-256: nobody guesses 160 random bits, so nothing slow is needed (ASVS 5.0, 6.5.2).
    """
    return hashlib.sha256(secret.encode("ascii")).digest()


def kind_of(token: str) -> TokenKind:
    """Read a token's kind, without any database.

    Raises:
        Unauthenticated: this is no token of ours.
    """
    match = PATTERN.fullmatch(token)
    if match is None or token[-_CHECKSUM_CHARACTERS:] != _checksum(token[:-_CHECKSUM_CHARACTERS]):
        raise Unauthenticated("The credential is malformed.")
    return TokenKind(match[1])


def _checksum(head: str) -> str:
    value = zlib.crc32(head.encode("ascii"))
    digits = []
    for _ in range(_CHECKSUM_CHARACTERS):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
