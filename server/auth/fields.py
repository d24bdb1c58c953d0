"""What people may type into the fields of an account."""

import re

from server.errors import InvalidInput

MAX_EMAIL_CHARACTERS = 254
_MAX_LOCAL_CHARACTERS = 64

#: A dot-atom of RFC 5321 and 6531, dotted by what stands between.
_LOCAL_PART = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_DOMAIN = re.compile(r"([^\W_]([\w-]{0,61}[^\W_])?\.)+[^\W\d_]([\w-]{0,61}[^\W_])?")


def is_email(text: str) -> bool:
    """Whether the text has the form of an e-mail address that mail can be sent to over the Internet."""
    if len(text) > MAX_EMAIL_CHARACTERS or not text.isprintable():
        return False
    local, at, domain = text.rpartition("@")
    return (
        at == "@"
        and len(local) <= _MAX_LOCAL_CHARACTERS
        and _LOCAL_PART.fullmatch(local) is not None
        and _DOMAIN.fullmatch(domain) is not None
        and "_" not in domain
    )


def check_email(text: str, *, field: str = "email") -> None:
    """Pass if the text has the form of an e-mail address.

    Raises:
        InvalidInput: it has not; the path is ``field``.
    """
    if not is_email(text):
        raise InvalidInput("This is not an e-mail address.", path=(field,))


def check_label(text: str, *, field: str, max_characters: int) -> None:
    """Pass if the text can name something: 1 to ``max_characters`` printable characters, not all blank.

    Raises:
        InvalidInput: it can't; the path is ``field``.
    """
    if not 1 <= len(text) <= max_characters or not text.isprintable() or text.isspace():
        raise InvalidInput(f"`{field}` must have 1 to {max_characters} printable characters.", path=(field,))


def clean_header(value: str | None, *, max_characters: int) -> str | None:
    """Cut what a client says about itself down to what can be stored and shown."""
    if value is None:
        return None
    return "".join(character for character in value if character.isprintable())[:max_characters] or None
