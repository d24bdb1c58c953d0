"""What the services refuse, with the stable codes of the contract.

The faces map them; nothing here knows HTTP.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class ErrorCode(StrEnum):
    """Why a request failed, for programs."""

    INVALID_INPUT = "INVALID_INPUT"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA = "UNSUPPORTED_MEDIA"
    PIPELINE_UNAVAILABLE = "PIPELINE_UNAVAILABLE"
    DATASET_INVALID = "DATASET_INVALID"
    JOB_FINISHED = "JOB_FINISHED"
    BUSY = "BUSY"
    TIMEOUT = "TIMEOUT"
    QUERY_LIMIT = "QUERY_LIMIT"
    INTERNAL = "INTERNAL"


class ServiceError(Exception):
    """A refusal that the caller may read.

    Attributes:
        code: stable, from the contract.
        message: one sentence for a person, free of internals.
        path: the field at fault, outermost first, e.g. ``("texts", "3")``; empty when there is none.
        retry_after_s: when trying again may help.
    """

    code = ErrorCode.INTERNAL

    def __init__(
        self, message: str, *, path: tuple[str, ...] = (), retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.retry_after_s = retry_after_s


class InvalidInput(ServiceError):
    """A field has a value that can't be used."""

    code = ErrorCode.INVALID_INPUT


class InvalidCredentials(ServiceError):
    """The address and password don't belong together."""

    code = ErrorCode.INVALID_CREDENTIALS


class Unauthenticated(ServiceError):
    """No credential, or one that is malformed, unknown, expired or revoked."""

    code = ErrorCode.UNAUTHENTICATED


class Forbidden(ServiceError):
    """The credential lacks the scope."""

    code = ErrorCode.FORBIDDEN


class NotFound(ServiceError):
    """There is no such thing, or it is somebody else's."""

    code = ErrorCode.NOT_FOUND


class Conflict(ServiceError):
    """The state of the thing does not allow it."""

    code = ErrorCode.CONFLICT


class JobFinished(ServiceError):
    """The job has ended; nothing about it changes any more."""

    code = ErrorCode.JOB_FINISHED


class RateLimited(ServiceError):
    """Too many requests."""

    code = ErrorCode.RATE_LIMITED


class PayloadTooLarge(ServiceError):
    """Over a documented size limit."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


class QuotaExceeded(ServiceError):
    """The account has used up what it may use."""

    code = ErrorCode.QUOTA_EXCEEDED


class DatasetInvalid(ServiceError):
    """The data set can't be trained on."""

    code = ErrorCode.DATASET_INVALID


class UnsupportedMedia(ServiceError):
    """We know what it is, and don't serve it."""

    code = ErrorCode.UNSUPPORTED_MEDIA


class PipelineUnavailable(ServiceError):
    """No worker hosts the pipeline now."""

    code = ErrorCode.PIPELINE_UNAVAILABLE


class Busy(ServiceError):
    """A bounded resource is full."""

    code = ErrorCode.BUSY


class TimedOut(ServiceError):
    """The deadline passed."""

    code = ErrorCode.TIMEOUT


_BY_CODE: Final[Mapping[str, type[ServiceError]]] = {
    kind.code: kind for kind in ServiceError.__subclasses__()
}


def refusal(code: str, message: str, *, path: tuple[str, ...] = ()) -> ServiceError:
    """Make the error of a code that came over the bus; one that has no class here is INTERNAL."""
    return _BY_CODE.get(code, ServiceError)(message, path=path)
