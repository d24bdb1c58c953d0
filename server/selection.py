"""From content to pipeline, with the reason."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from server.deployments import Deployments, is_model_name
from server.errors import InvalidInput, PipelineUnavailable, UnsupportedMedia
from server.pipelines import Pipelines
from server.records import FileRecord, Modality, PipelineRecord, SelectionRecord

AUTO: Final = "auto"

#: Pictures the workers decode.
SERVED_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
#: Kinds this release serves, whether or not a worker is there.
_SERVED: Final = frozenset({Modality.TEXT, Modality.IMAGE})
_NOUNS: Final = {
    Modality.TEXT: "text",
    Modality.IMAGE: "an image",
    Modality.AUDIO: "audio",
    Modality.VIDEO: "video",
    Modality.DOCUMENT: "a document",
}
_RETRY_AFTER_S: Final = 5.0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline of a request. ``selection`` is None where the caller named it."""

    pipeline: PipelineRecord
    selection: SelectionRecord | None


class Selector:
    """Chooses pipelines, and refuses what none of them takes."""

    def __init__(self, pipelines: Pipelines, deployments: Deployments | None = None) -> None:
        self._pipelines = pipelines
        # None: nobody deploys models here.
        self._deployments = deployments

    async def get(self, user_id: UUID, name: str) -> PipelineRecord:
        """Return a pipeline that is or was hosted, or that is or was the user's deployed model.

        Raises:
            NotFound: there is none of that name.
        """
        if self._deployments is not None and is_model_name(name):
            found = await self._deployments.find_pipeline(user_id, name)
            if found is not None:
                return found
        return await self._pipelines.get(name)

    async def for_texts(self) -> SelectionRecord:
        """Choose for texts that came as such.

        Raises:
            PipelineUnavailable: no worker hosts a pipeline for text now.
        """
        pipeline = await self._find_auto(Modality.TEXT)
        return SelectionRecord(
            pipeline=pipeline,
            media_type="text/plain",
            modality=Modality.TEXT,
            confidence=1.0,
            reason=f"The input is text, and {pipeline.name} comes first for text here.",
        )

    async def for_file(self, file: FileRecord) -> SelectionRecord:
        """Choose for an uploaded file.

        Raises:
            UnsupportedMedia: no pipeline takes such content; the message says what it is.
            PipelineUnavailable: no worker hosts a pipeline for it now.
        """
        modality = self._require_served(file)
        pipeline = await self._find_auto(modality)
        return SelectionRecord(
            pipeline=pipeline,
            media_type=file.media_type,
            modality=modality,
            confidence=file.confidence,
            reason=f"{file.reason} {pipeline.name} comes first for {_NOUNS[modality]} here.",
        )

    async def resolve_texts(self, user_id: UUID, name: str) -> Choice:
        """Find the pipeline for texts of a user under a name or ``auto``.

        Raises:
            InvalidInput: the named pipeline does not take text.
            NotFound: there is none of that name.
            PipelineUnavailable: it can't be used now.
        """
        if name == AUTO:
            selection = await self.for_texts()
            return Choice(pipeline=selection.pipeline, selection=selection)
        pipeline = await self._require_available(user_id, name)
        if pipeline.modality != Modality.TEXT:
            raise InvalidInput(_mismatch(pipeline, Modality.TEXT), path=("texts", "0"))
        return Choice(pipeline=pipeline, selection=None)

    async def resolve_files(self, user_id: UUID, name: str, files: Sequence[FileRecord]) -> Choice:
        """Find the one pipeline for all files of a user, at least one, under a name or ``auto``.

        Raises:
            InvalidInput: they are of several kinds, or of one the named pipeline does not take.
            UnsupportedMedia: no pipeline takes such content.
            NotFound: there is no pipeline of that name.
            PipelineUnavailable: it can't be used now.
        """
        if name == AUTO:
            for index, file in enumerate(files):
                if file.modality != files[0].modality:
                    raise InvalidInput(
                        f"This is {_describe(file)}, and the first file is {_describe(files[0])}; "
                        "`auto` takes one pipeline for all.",
                        path=("file_ids", str(index)),
                    )
        for index, file in enumerate(files):
            self._require_served(file, index)
        if name == AUTO:
            selection = await self.for_file(files[0])
            return Choice(pipeline=selection.pipeline, selection=selection)
        pipeline = await self._require_available(user_id, name)
        for index, file in enumerate(files):
            if file.modality is not None and file.modality != pipeline.modality:
                raise InvalidInput(_mismatch(pipeline, file.modality), path=("file_ids", str(index)))
        return Choice(pipeline=pipeline, selection=None)

    async def resolve_rows(self, user_id: UUID, name: str, modality: Modality) -> PipelineRecord:
        """Find the pipeline for the rows of a data set, all of one kind, under a name or ``auto``.

        Raises:
            InvalidInput: the named pipeline does not take them (path ``dataset_id``).
            NotFound: there is no pipeline of that name.
            PipelineUnavailable: it can't be used now.
        """
        if name == AUTO:
            return await self._find_auto(modality)
        pipeline = await self._require_available(user_id, name)
        if pipeline.modality != modality:
            raise InvalidInput(_mismatch(pipeline, modality), path=("dataset_id",))
        return pipeline

    async def _require_available(self, user_id: UUID, name: str) -> PipelineRecord:
        if self._deployments is not None and is_model_name(name):
            return await self._deployments.require_available(user_id, name)
        return await self._pipelines.require_available(name)

    def _require_served(self, file: FileRecord, index: int | None = None) -> Modality:
        modality = file.modality
        is_served = modality is not None and (modality in _SERVED or self._pipelines.is_known(modality))
        if modality == Modality.IMAGE and file.media_type not in SERVED_IMAGES:
            is_served = False
        if modality is None or not is_served:
            raise UnsupportedMedia(
                f"This is {_describe(file)}, which no pipeline here takes. {file.reason}",
                path=() if index is None else ("file_ids", str(index)),
            )
        return modality

    async def _find_auto(self, modality: Modality) -> PipelineRecord:
        pipeline = await self._pipelines.find_auto(modality)
        if pipeline is None:
            raise PipelineUnavailable(
                f"No worker hosts a pipeline for {_NOUNS[modality]} at the moment.",
                path=("pipeline",),
                retry_after_s=_RETRY_AFTER_S,
            )
        return pipeline


def _describe(file: FileRecord) -> str:
    if file.modality is None:
        return f"a file of type {file.media_type}"
    return f"{_NOUNS[file.modality]} ({file.media_type})"


def _mismatch(pipeline: PipelineRecord, given: Modality) -> str:
    return f"The pipeline {pipeline.name} takes {_NOUNS[pipeline.modality]}, and this is {_NOUNS[given]}."
