"""Expected failures as data: the members of the mutations' unions beside their payload."""

from typing import Self

import strawberry
from strawberry.types.field import StrawberryField

from server import errors
from server.errors import ServiceError
from server.graphql.context import Info
from server.graphql.errors import field_path, schema_path
from server.graphql.types.enums import ErrorCode
from server.problems import problems_of


@strawberry.interface(description="Why a mutation did not do what it was asked.")
class Error:
    """What all refusals have."""

    code: ErrorCode = strawberry.field(description="For programs.")
    message: str = strawberry.field(description="One sentence for a person.")
    path: list[str] | None = strawberry.field(
        description="The argument at fault, outermost first, as in input, texts, 3; null when there is none."
    )

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Reshape a service's refusal."""
        return cls(code=error.code, message=error.message, path=field_path(error, inside="input") or None)


@strawberry.interface(name="RetryableError", description="A refusal that may be over soon.")
class RetryableError(Error):
    """Says when to try again."""

    retry_after_seconds: float | None = strawberry.field(
        description="When to try again, where that is known."
    )

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Reshape a service's refusal."""
        path = field_path(error, inside="input") or None
        return cls(code=error.code, message=error.message, path=path, retry_after_seconds=error.retry_after_s)


@strawberry.type(description="What is wrong with one value.")
class FieldProblem:
    """One of the problems of an input."""

    path: list[str] = strawberry.field(
        description="The argument at fault, outermost first, as in input, trainer, gan, learningRate."
    )
    message: str = strawberry.field(description="One sentence for a person.")


@strawberry.type(name="InvalidInput", description="A value can't be used; `path` says which.")
class InvalidInput(Error):
    """INVALID_INPUT."""

    problems: list[FieldProblem] = strawberry.field(
        description="Everything that is wrong, where all of it was looked for; else the first alone."
    )

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Reshape a service's refusal."""
        problems = [
            FieldProblem(path=schema_path(problem.path, inside="input"), message=problem.message)
            for problem in problems_of(error)
        ]
        path = field_path(error, inside="input") or None
        return cls(code=error.code, message=error.message, path=path, problems=problems)


@strawberry.type(name="InvalidCredentials", description="The address and the password don't belong together.")
class InvalidCredentials(Error):
    """INVALID_CREDENTIALS."""


@strawberry.type(name="Forbidden", description="The credential may not do this.")
class Forbidden(Error):
    """FORBIDDEN."""


@strawberry.type(name="NotFound", description="There is no such thing, or it is somebody else's.")
class NotFound(Error):
    """NOT_FOUND."""


@strawberry.type(name="Conflict", description="The state of the thing does not allow it.")
class Conflict(Error):
    """CONFLICT."""


@strawberry.type(name="JobFinished", description="The job has ended; nothing about it changes any more.")
class JobFinished(Error):
    """JOB_FINISHED."""


@strawberry.type(name="RateLimited", description="Too many requests.")
class RateLimited(RetryableError):
    """RATE_LIMITED."""


@strawberry.type(name="PayloadTooLarge", description="Over a documented size limit.")
class PayloadTooLarge(Error):
    """PAYLOAD_TOO_LARGE."""


@strawberry.type(name="QuotaExceeded", description="The account has used up what it may use.")
class QuotaExceeded(RetryableError):
    """QUOTA_EXCEEDED."""


@strawberry.type(name="DatasetInvalid", description="The data set can't be trained on.")
class DatasetInvalid(Error):
    """DATASET_INVALID."""


@strawberry.type(name="UnsupportedMedia", description="We know what it is, and don't serve it.")
class UnsupportedMedia(Error):
    """UNSUPPORTED_MEDIA."""


@strawberry.type(name="PipelineUnavailable", description="No worker hosts the pipeline now.")
class PipelineUnavailable(RetryableError):
    """PIPELINE_UNAVAILABLE."""


@strawberry.type(name="Busy", description="All places are taken.")
class Busy(RetryableError):
    """BUSY."""


@strawberry.type(name="TimedOut", description="It took too long.")
class TimedOut(RetryableError):
    """TIMEOUT."""


class RefusalHandler:
    """Answers one kind of refusal as data, in the fields whose union names it; strawberry calls it."""

    def __init__(self, exception_type: type[ServiceError], error_type: type[Error]) -> None:
        self.exception_type = exception_type
        self.error_type = error_type

    def handle(self, exception: ServiceError, *, field: StrawberryField, info: Info) -> Error:
        """Reshape the refusal."""
        del field, info
        return self.error_type.of(exception)


def refusal_handlers() -> list[RefusalHandler]:
    """Pair each refusal of the services with its type. Who is not signed in is told on top level."""
    pairs: list[tuple[type[ServiceError], type[Error]]] = [
        (errors.InvalidInput, InvalidInput),
        (errors.InvalidCredentials, InvalidCredentials),
        (errors.Forbidden, Forbidden),
        (errors.NotFound, NotFound),
        (errors.Conflict, Conflict),
        (errors.JobFinished, JobFinished),
        (errors.RateLimited, RateLimited),
        (errors.PayloadTooLarge, PayloadTooLarge),
        (errors.QuotaExceeded, QuotaExceeded),
        (errors.DatasetInvalid, DatasetInvalid),
        (errors.UnsupportedMedia, UnsupportedMedia),
        (errors.PipelineUnavailable, PipelineUnavailable),
        (errors.Busy, Busy),
        (errors.TimedOut, TimedOut),
    ]
    return [RefusalHandler(exception_type, error_type) for exception_type, error_type in pairs]
