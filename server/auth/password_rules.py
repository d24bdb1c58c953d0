"""Which passwords may be chosen (NIST SP 800-63B-4, section 3.1.1.2): long, any characters, not guessable.

There are no rules of composition, and what was typed is never changed: not trimmed, not normalised.
"""

from server.errors import InvalidInput

MIN_CHARACTERS = 15
MAX_CHARACTERS = 256
#: Fewer different characters than this is a pattern.
_MIN_DIFFERENT = 5

#: The start of everyday lists, as far as it is long enough to be tried here; compared without case.
_COMMON = frozenset(
    {
        "1q2w3e4r5t6y7u8i",
        "1q2w3e4r5t6y7u8i9o0p",
        "1qaz2wsx3edc4rfv",
        "1qaz2wsx3edc4rfv5tgb",
        "1234567890qwertyuiop",
        "administrator123",
        "changemechangeme",
        "correct horse battery staple",
        "correcthorsebatterystaple",
        "iloveyousomuch123",
        "letmeinletmein123",
        "mypasswordispassword",
        "password1234567",
        "password12345678",
        "password123456789",
        "password1234567890",
        "passwordpassword1",
        "passwordpassword123",
        "qwerty123456789",
        "qwerty1234567890",
        "qwertyuiop12345",
        "qwertyuiop123456",
        "qwertyuiop123456789",
        "qwertyuiop1234567890",
        "thisismypassword",
        "thisisapassword",
        "trustno1trustno1",
        "welcometotheworld",
        "welcomewelcome123",
    }
)
#: A run along one of these, either way and over the end, is no secret.
_RUNS = ("0123456789", "1234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm")


def is_hashable(password: str) -> bool:
    """Whether the text can be a password at all; anything else is simply a wrong one at log-in."""
    if len(password) > MAX_CHARACTERS or "\0" in password:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in password)


def check_new_password(password: str, *, email: str, field: str = "password") -> None:
    """Pass if the password may be chosen by the owner of ``email``.

    Raises:
        InvalidInput: it may not; the path is ``field``.
    """
    reason = _find_fault(password, email)
    if reason is not None:
        raise InvalidInput(reason, path=(field,))


def _find_fault(password: str, email: str) -> str | None:
    # Characters are Unicode code points: length is counted as people count, not in bytes.
    if len(password) < MIN_CHARACTERS:
        return f"The password must have at least {MIN_CHARACTERS} characters."
    if len(password) > MAX_CHARACTERS:
        return f"The password must have at most {MAX_CHARACTERS} characters."
    if not is_hashable(password):
        return "The password has a character that can't be sent: NUL or half of a surrogate pair."
    folded = password.casefold()
    if folded == email.casefold():
        return "The password must not be the e-mail address."
    if folded in _COMMON or _is_pattern(folded):
        return "The password is too easy to guess: it is well known, or a repeated or running pattern."
    return None


def _is_pattern(text: str) -> bool:
    if len(set(text)) < _MIN_DIFFERENT:
        return True
    # A text that is found inside its own double before the end is a whole number of repeats.
    if (text + text).find(text, 1) < len(text):
        return True
    return any(text in run * (2 + len(text) // len(run)) for row in _RUNS for run in (row, row[::-1]))
