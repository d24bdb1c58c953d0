"""From what a caller asks a job to embed to what a worker is given."""

from uuid import UUID

from bus.messages import Input, ObjectInput, TextInput
from server.embed_inputs import check_files, check_shape, encode_texts
from server.errors import InvalidInput
from server.records import EmbedRequest, PipelineRecord, Record
from server.selection import AUTO, Selector
from server.uploads import Uploads

_MAX_KEY_LENGTH = 200


class CreateJobRequest(Record, frozen=True):
    """Exactly one of ``texts`` and ``file_ids``. ``pipeline`` is a name or ``auto``."""

    texts: list[str] | None = None
    file_ids: list[UUID] | None = None
    pipeline: str = AUTO
    #: The same key with the same request answers with the same job.
    idempotency_key: str | None = None


class ResolvedInputs(Record, frozen=True):
    """What the workers get, the pipeline that takes it, and how many bytes of content it is."""

    pipeline: PipelineRecord
    inputs: list[Input]
    num_bytes: int


class JobInputs:
    """Checks requests and resolves them."""

    def __init__(self, uploads: Uploads, selector: Selector, *, max_inputs: int, max_text_bytes: int) -> None:
        self._uploads = uploads
        self._selector = selector
        self._max_inputs = max_inputs
        self._max_text_bytes = max_text_bytes

    def check(self, request: CreateJobRequest) -> None:
        """Check all that can be known from the request alone.

        Raises:
            InvalidInput, PayloadTooLarge: with the path of the first field at fault.
        """
        key = request.idempotency_key
        if key is not None and not (0 < len(key) <= _MAX_KEY_LENGTH and key.isprintable()):
            raise InvalidInput(
                f"An idempotency key has 1 to {_MAX_KEY_LENGTH} printable characters.",
                path=("idempotency_key",),
            )
        # PostgreSQL and msgpack take no lone surrogate, which a name can only have by mistake.
        if not request.pipeline.isprintable():
            raise InvalidInput("A pipeline has a name of printable characters.", path=("pipeline",))
        check_shape(EmbedRequest(texts=request.texts, file_ids=request.file_ids), max_inputs=self._max_inputs)
        encode_texts(request.texts or (), max_text_bytes=self._max_text_bytes)

    async def resolve(self, user_id: UUID, request: CreateJobRequest) -> ResolvedInputs:
        """Find the pipeline that takes all inputs of a request that was checked.

        Raises:
            NotFound: a file that isn't there or is somebody else's, or a pipeline nobody has heard of.
            InvalidInput: files of several kinds under ``auto``, or a kind the named pipeline doesn't take.
            UnsupportedMedia: no pipeline takes a file of this kind.
            PayloadTooLarge: a text file is longer than a text may be.
            PipelineUnavailable: no worker hosts the pipeline now.
        """
        if request.file_ids is None:
            texts = request.texts or []
            choice = await self._selector.resolve_texts(request.pipeline)
            return ResolvedInputs(
                pipeline=choice.pipeline,
                inputs=[TextInput(text=text) for text in texts],
                num_bytes=sum(len(text.encode()) for text in texts),
            )
        files = await self._uploads.get_many(user_id, request.file_ids)
        choice = await self._selector.resolve_files(request.pipeline, files)
        check_files(files, max_text_bytes=self._max_text_bytes)
        return ResolvedInputs(
            pipeline=choice.pipeline,
            inputs=[
                ObjectInput(key=file.object_key, media_type=file.media_type, byte_size=file.byte_size)
                for file in files
            ],
            num_bytes=sum(file.byte_size for file in files),
        )
