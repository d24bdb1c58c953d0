"""Look at every row of a data set and prepare it for training."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import msgspec

from workers.train.datasets.cleaning import shown
from workers.train.datasets.facts import (
    MODALITIES,
    BadSource,
    FileSource,
    Findings,
    Issue,
    Limits,
    Reading,
    Row,
    SampleSource,
)
from workers.train.datasets.issues import IssueList
from workers.train.datasets.opening import open_source
from workers.train.datasets.pictures import strict_pictures
from workers.train.datasets.previews import Inputs, Preview
from workers.train.datasets.samples import open_sample
from workers.train.datasets.storing import Gathered, Gathering, finish_rows, order_classes

DATA_FILE = "data.parquet"
FACTS_FILE = "dataset.json"
_WORK_FOLDER = "work"
_FEWEST_ROWS = 4
_MAX_NAMED = 3


def validate(source: FileSource | SampleSource, folder: Path, limits: Limits | None = None) -> Findings:
    """Look at every row; where the data set can be used, write it into ``folder``, which is made if need be.

    What is wrong with the data is in the findings, whatever it is; it is never raised. Of a data set that
    can't be used, no file is left. Files: ``data.parquet``, ``dataset.json``, ``preview.png`` or
    ``preview.json``, and for small ones ``inputs.json`` with ``images/``.

    Raises:
        OSError: the disk is full, or the source isn't there.
        FileExistsError: the folder isn't empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    work = folder / _WORK_FOLDER
    work.mkdir()
    issues = IssueList()
    try:
        with strict_pictures():
            findings = _look(source, folder, issues, limits or Limits())
    except BadSource as error:
        issues.put_first(str(error))
        findings = Findings(is_usable=False, issues=issues.kept, num_issues=issues.num_issues)
    finally:
        shutil.rmtree(work)
    if not findings.is_usable:
        _clear(folder)
    return findings


def _look(source: FileSource | SampleSource, folder: Path, issues: IssueList, limits: Limits) -> Findings:
    rough = folder / _WORK_FOLDER / DATA_FILE
    if isinstance(source, SampleSource):
        reading = open_sample(source.name, limits)
    else:
        reading = open_source(source, folder / _WORK_FOLDER, limits)
    gathered = _gather(reading, rough, issues, limits)
    reason = _reason_against(gathered, issues)
    if reason is not None:
        issues.put_first(reason)
        return _findings(gathered, reading, issues, {}, is_usable=False)
    for note in _notes(gathered):
        issues.add(Issue(None, note))
    splits = _write(gathered, rough, folder, limits)
    findings = _findings(gathered, reading, issues, splits, is_usable=True)
    (folder / FACTS_FILE).write_bytes(msgspec.json.encode(findings))
    return findings


def _gather(reading: Reading, rough: Path, issues: IssueList, limits: Limits) -> Gathered:
    with Gathering(reading, rough, limits) as gathering:
        for row in reading.rows:
            if isinstance(row, Row):
                gathering.add(row)
            else:
                issues.add(row)
                if issues.num_bad_rows > limits.max_rows:
                    raise BadSource(f"It has more than {limits.max_rows:,} rows.")
        return gathering.finish()


def _reason_against(gathered: Gathered, issues: IssueList) -> str | None:
    """Why rows that were looked at are not enough to train on."""
    good, bad = gathered.num_rows, issues.num_bad_rows
    if not good and not bad:
        return "It has no rows."
    if bad > good:
        return f"{bad:,} of {good + bad:,} rows can't be used, more than half: see the rows' issues."
    if good < _FEWEST_ROWS:
        return f"It has {good} good rows; at least {_FEWEST_ROWS} are needed."
    return None


def _notes(gathered: Gathered) -> list[str]:
    """What is odd about a data set that can be used."""
    if len(gathered.classes) == 1:
        return [f"It has one class only, {shown(gathered.classes[0])}: classifiers can't learn from it."]
    few = [name for name, count in zip(gathered.classes, gathered.class_counts, strict=True) if count == 1]
    if few and len(few) == len(gathered.classes):
        return ["Every label has one row only: is the label column the right one?"]
    if few:
        named = ", ".join(shown(name) for name in few[:_MAX_NAMED])
        return [f"Classes with one row only: {len(few)}, such as {named}. Nothing can be learned of them."]
    return []


def _write(gathered: Gathered, rough: Path, folder: Path, limits: Limits) -> dict[str, int]:
    """The prepared files; how many rows each split has."""
    classes = order_classes(gathered.classes)
    preview = Preview(gathered.kind, classes)
    num_rows = num_tests = 0
    with ExitStack() as stack:
        inputs = None
        if Inputs.is_wanted(gathered.kind, gathered.num_rows, rough.stat().st_size, limits):
            inputs = stack.enter_context(Inputs(gathered.kind, folder))
        for group in finish_rows(gathered, rough, folder / DATA_FILE, limits):
            num_rows += len(group.labels)
            num_tests += sum(group.is_test)
            for content, label, is_test in zip(group.content, group.labels, group.is_test, strict=True):
                preview.add(content, label, is_test)
                if inputs is not None:
                    inputs.add(content)
    preview.write(folder)
    return {"train": num_rows - num_tests, "test": num_tests}


def _findings(
    gathered: Gathered, reading: Reading, issues: IssueList, splits: dict[str, int], *, is_usable: bool
) -> Findings:
    counts = gathered.tag_counts or dict(zip(gathered.classes, gathered.class_counts, strict=True))
    classes = order_classes(list(counts))
    return Findings(
        is_usable=is_usable,
        kind=gathered.kind,
        modality=MODALITIES[gathered.kind],
        sha256=gathered.sha256,
        num_rows=gathered.num_rows,
        classes=classes,
        class_counts=[counts[name] for name in classes],
        num_unlabelled=gathered.num_unlabelled,
        splits=splits,
        issues=issues.kept,
        num_issues=issues.num_issues,
        shape=gathered.shape,
        num_tokens=gathered.num_tokens,
        is_running_text=reading.is_running_text,
    )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
