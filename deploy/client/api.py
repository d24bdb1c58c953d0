"""One server, spoken to over HTTP: what it refuses is said in one line, what may be asked twice is."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from deploy.client.settings import ClientSettings
from deploy.errors import CommandFailed, WrongUse

#: How long a server may take with an answer: it gives up `embed` itself after 30 s.
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
#: Servers that are being restarted come back within this.
_PATIENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
#: Nothing was done, or nobody knows; the first wait for what `Retry-After` says.
_ASK_AGAIN = frozenset({429, 502, 503, 504})
_INVALID_INPUT, _UNAUTHENTICATED = 400, 401

Json = dict[str, Any]


class Unanswered(Exception):
    """A request may be sent again; the message says what happened.

    Attributes:
        retry_after_s: how long the server wants to be left alone, if it said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Api:
    """The routes of one server, for one API key. Use it as a context manager."""

    def __init__(self, server: str, key: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.server = server.rstrip("/")
        self._pause = pause
        self._http = httpx.Client(
            base_url=self.server,
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT,
            # A proxy that is set for the rest of the world knows nothing of this machine.
            trust_env=urlsplit(server).hostname not in _LOOPBACK,
        )

    @classmethod
    def open(cls, settings: ClientSettings) -> Self:
        """Open what was set.

        Raises:
            WrongUse: there is no key, or its file can't be read.
        """
        return cls(settings.server, _key_of(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Json:
        """Ask until the server answers.

        Raises:
            WrongUse, CommandFailed: it refuses, or does not answer for a minute.
        """
        return self._patiently(lambda: self._http.get(path))

    def post(self, path: str, body: Mapping[str, object], *, may_repeat: bool = True) -> Json:
        """Ask for something to be done; ``may_repeat`` says that twice is no more than once.

        Raises:
            WrongUse, CommandFailed: the server refuses, or does not answer.
        """

        def ask() -> httpx.Response:
            return self._http.post(path, json=dict(body))

        return self._patiently(ask) if may_repeat else self._once(ask)

    def delete(self, path: str) -> None:
        """Remove something; that it is not there is no error."""
        with contextlib.suppress(CommandFailed):
            self._once(lambda: self._http.delete(path))

    def upload(self, path: Path) -> str:
        """Send a file, part by part, and return its id.

        Raises:
            WrongUse: the file can't be read, or the server refuses it.
            CommandFailed: the server does not take it.
        """
        try:
            with path.open("rb") as file:
                # It is read as it is sent.
                stored = self._once(lambda: self._http.post("/v1/files", files={"file": (path.name, file)}))
        except OSError as error:
            raise WrongUse(f"{path} can't be read: {error.strerror}") from error
        return str(stored["id"])

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Open an answer that comes bit by bit.

        Raises:
            Unanswered: there is none, or it breaks off.
            WrongUse, CommandFailed: the server refuses.
        """
        try:
            with self._http.stream("GET", path, headers=dict(headers)) as response:
                if response.is_error:
                    response.read()
                    self._check(response)
                yield response
        except httpx.TransportError as error:
            raise Unanswered(self._said_of(error)) from error

    def _patiently(self, ask: Callable[[], httpx.Response]) -> Json:
        for pause_s in pauses(_PATIENCE_S):
            try:
                return self._answered(ask)
            except Unanswered as unanswered:
                reason = str(unanswered)
                self._pause(max(pause_s, unanswered.retry_after_s or 0.0))
        raise CommandFailed(reason)

    def _once(self, ask: Callable[[], httpx.Response]) -> Json:
        try:
            return self._answered(ask)
        except Unanswered as unanswered:
            raise CommandFailed(str(unanswered)) from unanswered

    def _answered(self, ask: Callable[[], httpx.Response]) -> Json:
        try:
            response = ask()
        except httpx.TransportError as error:
            raise Unanswered(self._said_of(error)) from error
        self._check(response)
        if not response.content:
            return {}
        try:
            return msgspec.json.decode(response.content, type=Json)
        except msgspec.DecodeError as error:
            raise self._strange() from error

    def _said_of(self, error: httpx.TransportError) -> str:
        reason = str(error) or type(error).__name__
        return f"{self.server} does not answer ({reason}): check --server, and that it runs"

    def _strange(self) -> CommandFailed:
        return CommandFailed(f"{self.server} answers like another service: check --server")

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            error = msgspec.json.decode(response.content, type=Json)["error"]
            message = _words_of(error)
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as strange:
            if response.status_code in _ASK_AGAIN:
                raise Unanswered(f"{self.server} answers with status {response.status_code}") from strange
            raise self._strange() from strange
        if response.status_code in _ASK_AGAIN and error.get("code") != "QUOTA_EXCEEDED":
            raise Unanswered(message, _seconds(response.headers.get("retry-after")))
        if response.status_code == _UNAUTHENTICATED:
            raise WrongUse(f"{self.server} refuses the API key: {message}")
        if response.status_code == _INVALID_INPUT:
            raise WrongUse(message)
        raise CommandFailed(message)


def pauses(patience_s: float) -> Iterator[float]:
    """Give how long to pause before each further try, until ``patience_s`` are over."""
    pause_s, over_s = _FIRST_PAUSE_S, 0.0
    while over_s < patience_s:
        yield pause_s
        over_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _key_of(settings: ClientSettings) -> str:
    if settings.key:
        return settings.key
    if settings.key_file is None:
        raise WrongUse(
            f"no API key: give --key, --key-file or TOWHEE_API_KEY; POST {settings.server}/v1/keys makes one"
        )
    try:
        return settings.key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"the API key can't be read from {settings.key_file}: {error}") from error


def _words_of(error: Json) -> str:
    """Say all that is wrong, each with the field at fault."""
    return "; ".join(map(_words_of_problem, error.get("problems") or [error]))


def _words_of_problem(problem: Json) -> str:
    message = str(problem["message"])
    path = problem.get("path") or ([problem["param"]] if problem.get("param") else [])
    if not path or message.startswith(str(path[-1])):
        return message
    return f"{'.'.join(map(str, path))}: {message}"


def _seconds(retry_after: str | None) -> float | None:
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:
        return None
