"""The jobs of the data lane, seen from the supervisor: validating data sets and making samples."""

from functools import partial
from pathlib import Path

import msgspec

from bus.errors import ObjectNotFound, ObjectTooLarge
from bus.messages import (
    DatasetSplit,
    DatasetValidated,
    GenerationWork,
    PreparedDataset,
    RowIssue,
    SamplesMade,
    UploadedSource,
    ValidationWork,
    WorkClaimed,
    WorkStopped,
)
from bus.messages.registry import Modality
from bus.messages.work import MAX_ISSUES, DatasetKind
from workers.train.service.children import Child
from workers.train.service.ends import Hopeless, Lost, Why
from workers.train.service.frames import (
    INPUTS_FILE,
    FoundIssue,
    Generate,
    Generated,
    Validate,
    Validated,
)
from workers.train.service.reporting import Draft
from workers.train.service.storing import files_below, persistently, store_files
from workers.train.service.tools import Fact, Tools, do_task

_MAX_ISSUE_CHARACTERS = 160


class DataJob:
    """What both kinds share: they can be stopped at any moment, and have nothing to keep then."""

    def __init__(self, tools: Tools, claimed: WorkClaimed) -> None:
        self._tools = tools
        self._claimed = claimed
        self._child: Child | None = None

    def stop(self, why: Why) -> bool:
        """It can't stop by itself."""
        del why
        return False

    async def leave(self, why: Why | None) -> Draft:
        """Give the last report of a job that is cancelled."""
        del why
        return partial(WorkStopped, step=None)

    @property
    def spent_s(self) -> float:
        """Seconds that were computed for it."""
        return 0.0 if self._child is None else self._child.spent_s

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._child is not None:
            await self._child.clear()

    async def _take_child(self) -> tuple[Child, Path]:
        child = self._child = await self._tools.nursery.take()
        out = child.folder / "out"
        out.mkdir()
        return child, out

    def _ignore(self, fact: Fact) -> None:
        """Of the facts on the way none is reported."""


class ValidationJob(DataJob):
    """One attempt at looking at a data set."""

    def __init__(self, tools: Tools, claimed: WorkClaimed, work: ValidationWork) -> None:
        super().__init__(tools, claimed)
        self._work = work
        self._prefix = f"datasets/{work.dataset_id}"

    async def work(self) -> Draft:
        """Look at every row, and give the job's last report.

        Raises:
            Hopeless, Lost, NotStarted, ObjectStoreError: see `Attempt`.
        """
        tools, source = self._tools, self._work.source
        child, out = await self._take_child()
        path, media_type = None, ""
        if isinstance(source, UploadedSource):
            path, media_type = await self._download(source, child.folder), source.media_type
        task = Validate(
            name=source.name,
            path=path,
            media_type=media_type,
            out=str(out),
            prefix=self._prefix,
            limits=tools.limits,
        )
        found = await do_task(tools, child, task, self._ignore)
        if not isinstance(found, Validated):
            raise Lost("has told of something else than a data set")
        return described(found, await self._store(found, out) if found.is_usable else None)

    async def _download(self, source: UploadedSource, folder: Path) -> str:
        # Under a name of ours: the uploader's may be any text.
        path, objects = folder / "upload", self._tools.objects
        try:
            await persistently(lambda: objects.get_file(source.object_key, path, max_bytes=source.byte_size))
        except ObjectNotFound as error:
            raise Hopeless("NOT_FOUND", "The uploaded file is not there any more.") from error
        except ObjectTooLarge as error:
            raise Hopeless("INTERNAL", "The uploaded file is not the one that was stored.") from error
        return str(path)

    async def _store(self, found: Validated, out: Path) -> PreparedDataset:
        """Store the prepared files; only those that training reads are named in the report."""
        dataset_id, objects = self._work.dataset_id, self._tools.objects
        prefix, images = self._prefix, out / "images"
        files = files_below(out)
        beside = [path for path in files if path.is_relative_to(images) or path.name == INPUTS_FILE]
        await persistently(lambda: store_files(objects, out, prefix, beside))
        prepared = [path for path in files if path not in set(beside)]
        stored = await persistently(lambda: store_files(objects, out, prefix, prepared))
        return PreparedDataset(
            dataset_id=dataset_id, name=self._work.name, sha256=found.sha256 or "", stored=stored
        )


class GenerationJob(DataJob):
    """One attempt at making samples."""

    def __init__(self, tools: Tools, claimed: WorkClaimed, work: GenerationWork) -> None:
        super().__init__(tools, claimed)
        self._work = work

    async def work(self) -> Draft:
        """Make the samples, and give the job's last report.

        Raises:
            Hopeless, Lost, NotStarted, ObjectStoreError: see `Attempt`.
        """
        tools, work = self._tools, self._work
        child, out = await self._take_child()
        model = child.folder / "model"
        model.mkdir()
        try:
            await persistently(lambda: tools.cache.bring(work.model, model))
        except ObjectNotFound as error:
            raise Hopeless("NOT_FOUND", "The model is not there any more.") from error
        task = Generate(
            model=str(model), spec=work.spec, classes=work.classes, out=str(out), limits=tools.limits
        )
        made = await do_task(tools, child, task, self._ignore)
        if not isinstance(made, Generated):
            raise Lost("has told of something else than samples")
        # Not below the job: they are its user's files from now on.
        prefix = f"generated/{self._claimed.job_id}"
        stored = await persistently(lambda: store_files(tools.objects, out, prefix))
        return partial(SamplesMade, stored=stored, media_type=made.media_type)


def described(found: Validated, dataset: PreparedDataset | None) -> Draft:
    """Make the report about a data set."""
    return partial(
        DatasetValidated,
        dataset=dataset,
        kind=msgspec.convert(found.kind, DatasetKind | None),
        modality=msgspec.convert(found.modality, Modality | None),
        num_rows=found.num_rows,
        classes=found.classes,
        class_counts=found.class_counts,
        num_unlabelled=found.num_unlabelled,
        splits=[
            msgspec.convert({"name": name, "num_rows": num_rows}, DatasetSplit)
            for name, num_rows in found.splits.items()
        ],
        issues=[_issue(issue) for issue in found.issues[:MAX_ISSUES]],
        num_issues=found.num_issues,
        shape=found.shape,
        num_tokens=found.num_tokens,
    )


def _issue(issue: FoundIssue) -> RowIssue:
    return RowIssue(row=issue.row, message=issue.message[:_MAX_ISSUE_CHARACTERS])
