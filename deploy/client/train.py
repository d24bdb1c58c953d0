"""`towhee-api train`: from a file to a model that embeds, in one command."""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from deploy.client.api import Api, Json
from deploy.client.events import follow
from deploy.client.progress import Progress
from deploy.errors import CommandFailed, WrongUse

_DATASETS, _JOBS, _MODELS = "/v1/datasets", "/v1/training/jobs", "/v1/training/models"
_LOOK_EVERY_S = 0.3
#: Who waits for so long for a verdict hears that nobody may be there to give it.
_STILL_WAITING_S = 15.0
_MOST_ISSUES = 20


def train(api: Api, arguments: argparse.Namespace) -> int:
    """Do what was typed; give the exit code.

    Raises:
        WrongUse: options contradict each other, or the server refuses one.
        CommandFailed: the data can't be trained on, or the training does not succeed.
    """
    if arguments.cancel is not None:
        job = api.post(f"{_JOBS}/{arguments.cancel}/cancel", {})
        _say(f"training {job['id']} is {job['state']}")
        return os.EX_OK
    job_id = arguments.follow or _start(api, arguments)
    if not (arguments.watch or arguments.follow or arguments.deploy):
        _say(f"towhee-api train --follow {job_id} follows it")
        return os.EX_OK
    model_id = _watch(api, job_id)
    _say(f"model {model_id}")
    if arguments.deploy is not None:
        pipeline = api.post(f"{_MODELS}/{model_id}/deploy", {"name": arguments.deploy})["pipeline"]
        _say(f"deployed as {pipeline['name']}, version {pipeline['version']}")
    return os.EX_OK


def parameters_of(settings: Sequence[str]) -> Json:
    """Read what `--set NAME=VALUE` said: numbers, true, false and null as such, all else as text.

    Raises:
        WrongUse: there is no ``=`` in one.
    """
    parameters: Json = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise WrongUse(f"--set takes NAME=VALUE, not {setting}")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _start(api: Api, arguments: argparse.Namespace) -> str:
    """Make the data set, wait for what is said of it, and start the training."""
    parameters = parameters_of(arguments.settings)
    name = arguments.name or arguments.sample or Path(arguments.file).stem
    source: Json = {"sample": arguments.sample}
    if arguments.file is not None:
        _say(f"uploading {arguments.file}")
        source = {"file_id": api.upload(Path(arguments.file))}
    # Asked twice, because an answer was lost, each of the two is still made once.
    dataset = api.post(_DATASETS, {"name": name, **source, "idempotency_key": uuid4().hex})
    _tell_of(_wait_for_verdict(api, dataset))
    wanted: Json = {
        "name": name,
        "dataset_id": dataset["id"],
        "trainer": {arguments.trainer: parameters},
        "idempotency_key": uuid4().hex,
    }
    limits = {"seed": arguments.seed, "max_steps": arguments.max_steps}
    wanted |= {field: value for field, value in limits.items() if value is not None}
    job = api.post(_JOBS, wanted)
    _say(f"training {job['id']}")
    return str(job["id"])


def _wait_for_verdict(api: Api, dataset: Json) -> Json:
    began = time.monotonic()
    has_said = False
    while dataset["status"] == "VALIDATING":
        if not has_said and time.monotonic() - began > _STILL_WAITING_S:
            _say("the rows are still to be looked at; towhee-api doctor says whether a train worker is there")
            has_said = True
        time.sleep(_LOOK_EVERY_S)
        dataset = api.get(f"{_DATASETS}/{dataset['id']}")
    return dataset


def _tell_of(dataset: Json) -> None:
    """Say what was found in a data set.

    Raises:
        CommandFailed: it can't be trained on.
    """
    issues = dataset["issues"]
    for issue in issues[:_MOST_ISSUES]:
        where = "" if issue["row"] is None else f"row {issue['row']}: "
        _say(f"  {where}{issue['message']}")
    num_more = (dataset.get("issue_count") or len(issues)) - len(issues[:_MOST_ISSUES])
    if num_more > 0:
        _say(f"  and {num_more:,} more")
    if dataset["status"] != "READY":
        first = issues[0]["message"] if issues else "it is not known why"
        raise CommandFailed(f"the data set can't be trained on: {first}")
    classes = dataset["classes"]
    of_classes = f", {len(classes)} classes" if classes else ""
    _say(
        f"data set {dataset['name']}, version {dataset['version']}: {dataset['row_count']:,} rows{of_classes}"
    )


def _watch(api: Api, job_id: str) -> str:
    """Show a training until it has ended; give the id of its model.

    Raises:
        CommandFailed: there is none.
    """
    path = f"{_JOBS}/{job_id}"
    try:
        with Progress(api.server) as progress:
            for event in follow(api, f"{path}/events"):
                progress.take(event)
    except KeyboardInterrupt as interrupt:
        raise CommandFailed(
            f"the training goes on: towhee-api train --follow {job_id} follows it,"
            f" towhee-api train --cancel {job_id} stops it"
        ) from interrupt
    job = api.get(path)
    if job["state"] != "SUCCEEDED" or job["model_id"] is None:
        error = job.get("error")
        reason = f": {error['message']}" if error else ""
        raise CommandFailed(f"training {job_id} is {job['state']}{reason}")
    return str(job["model_id"])


def _say(line: str) -> None:
    print(line, flush=True)
