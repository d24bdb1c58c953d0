"""From what a caller asks a job to embed to what a worker is given."""

from uuid import UUID

from bus.errors import ObjectNotFound
from bus.messages import Input, ObjectInput, TextInput
from bus.messages.embedding import encode_inputs
from bus.objects import ObjectStore
from server.database import Database
from server.dataset_rows import find_dataset, folder_of, invalid_dataset
from server.embed_inputs import check_files, check_shape, encode_texts
from server.errors import Conflict, InvalidInput, NotFound
from server.idempotency import check_key
from server.object_access import reaching_objects
from server.records import EmbedRequest, PipelineRecord, Record
from server.selection import AUTO, Selector
from server.training_records import DatasetKind, DatasetStatus
from server.uploads import Uploads

#: What a train worker leaves beside a data set that is small enough: ``encode_inputs`` of its rows in order.
_INPUTS = "inputs.msgpack"
#: What rows can be embedded one by one.
_EMBEDDABLE = frozenset({DatasetKind.IMAGES, DatasetKind.TEXTS})


class CreateJobRequest(Record, frozen=True):
    """Exactly one of ``texts``, ``file_ids`` and ``dataset_id``. ``pipeline`` is a name or ``auto``."""

    texts: list[str] | None = None
    file_ids: list[UUID] | None = None
    #: The rows of a data set of texts or images, in their order.
    dataset_id: UUID | None = None
    pipeline: str = AUTO
    #: The same key with the same request answers with the same job.
    idempotency_key: str | None = None


class ResolvedInputs(Record, frozen=True):
    """What the workers get, the pipeline that takes it, and how many bytes of content it is.

    ``inputs`` is empty for a data set, whose inputs lie in the object store.
    """

    pipeline: PipelineRecord
    inputs: list[Input]
    item_count: int
    num_bytes: int
    dataset_id: UUID | None = None


class JobInputs:
    """Checks requests, resolves them, and leaves the inputs where a worker reads them."""

    def __init__(
        self,
        db: Database,
        objects: ObjectStore,
        uploads: Uploads,
        selector: Selector,
        *,
        max_inputs: int,
        max_text_bytes: int,
    ) -> None:
        self._db = db
        self._objects = objects
        self._uploads = uploads
        self._selector = selector
        self._max_inputs = max_inputs
        self._max_text_bytes = max_text_bytes

    def check(self, request: CreateJobRequest) -> None:
        """Check all that can be known from the request alone.

        Raises:
            InvalidInput, PayloadTooLarge: with the path of the first field at fault.
        """
        check_key(request.idempotency_key)
        # PostgreSQL and msgpack take no lone surrogate, which a name can only have by mistake.
        if not request.pipeline.isprintable():
            raise InvalidInput("A pipeline has a name of printable characters.", path=("pipeline",))
        if request.dataset_id is not None:
            if request.texts is not None or request.file_ids is not None:
                raise InvalidInput("Give exactly one of texts, files and a data set.", path=("dataset_id",))
            return
        check_shape(EmbedRequest(texts=request.texts, file_ids=request.file_ids), max_inputs=self._max_inputs)
        encode_texts(request.texts or (), max_text_bytes=self._max_text_bytes)

    async def resolve(self, user_id: UUID, request: CreateJobRequest) -> ResolvedInputs:
        """Find the pipeline that takes all inputs of a request that was checked.

        Raises:
            NotFound: a file or data set that isn't there or is somebody else's, or a pipeline nobody has
                heard of.
            InvalidInput: files of several kinds under ``auto``, a kind the named pipeline doesn't take, or a
                data set with other or more rows than a job takes.
            DatasetInvalid, Conflict: the data set is INVALID, or still VALIDATING.
            UnsupportedMedia: no pipeline takes a file of this kind.
            PayloadTooLarge: a text file is longer than a text may be.
            PipelineUnavailable: no worker hosts the pipeline now.
        """
        if request.dataset_id is not None:
            return await self._resolve_rows(user_id, request.dataset_id, request.pipeline)
        if request.file_ids is None:
            texts = request.texts or []
            choice = await self._selector.resolve_texts(user_id, request.pipeline)
            return ResolvedInputs(
                pipeline=choice.pipeline,
                inputs=[TextInput(text=text) for text in texts],
                item_count=len(texts),
                num_bytes=sum(len(text.encode()) for text in texts),
            )
        files = await self._uploads.get_many(user_id, request.file_ids)
        choice = await self._selector.resolve_files(user_id, request.pipeline, files)
        check_files(files, max_text_bytes=self._max_text_bytes)
        return ResolvedInputs(
            pipeline=choice.pipeline,
            inputs=[
                ObjectInput(key=file.object_key, media_type=file.media_type, byte_size=file.byte_size)
                for file in files
            ],
            item_count=len(files),
            num_bytes=sum(file.byte_size for file in files),
        )

    async def store(self, resolved: ResolvedInputs, key: str) -> None:
        """Put the inputs of a job under a key of its own.

        Raises:
            InvalidInput: the data set has none, since it has too many rows (path ``dataset_id``).
            ObjectsUnavailable: they can't be written now.
        """
        with reaching_objects():
            if resolved.dataset_id is None:
                await self._objects.put(key, encode_inputs(resolved.inputs))
                return
            try:
                await self._objects.copy(f"{folder_of(resolved.dataset_id)}/{_INPUTS}", key)
            except ObjectNotFound as error:
                raise _too_many_rows() from error

    async def _resolve_rows(self, user_id: UUID, dataset_id: UUID, pipeline: str) -> ResolvedInputs:
        dataset = await find_dataset(self._db, user_id, dataset_id)
        if dataset is None:
            raise NotFound("There is no such data set.", path=("dataset_id",))
        if dataset.status is DatasetStatus.INVALID:
            raise invalid_dataset(dataset)
        if dataset.status is DatasetStatus.VALIDATING:
            raise Conflict("The data set is still being looked at.", path=("dataset_id",))
        if dataset.kind not in _EMBEDDABLE or dataset.modality is None:
            raise InvalidInput("Only rows of texts or images can be embedded.", path=("dataset_id",))
        item_count = dataset.num_rows or 0
        if item_count > self._max_inputs:
            raise _too_many_rows()
        return ResolvedInputs(
            pipeline=await self._selector.resolve_rows(user_id, pipeline, dataset.modality),
            inputs=[],
            item_count=item_count,
            # What they come to was counted when they were uploaded.
            num_bytes=0,
            dataset_id=dataset_id,
        )


def _too_many_rows() -> InvalidInput:
    return InvalidInput("The data set has too many rows for one job.", path=("dataset_id",))
