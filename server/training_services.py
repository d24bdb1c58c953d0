"""The services of training, and how they are started and stopped."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

from bus.objects import ObjectStore
from bus.port import Bus
from server.backlog import Backlog
from server.database import Database
from server.datasets import Datasets
from server.deployments import Deployments
from server.dispatch import Dispatch
from server.generations import Generations
from server.job_cancellations import JobCancellations
from server.leftovers import Leftovers
from server.models import Models
from server.pipelines import Pipelines
from server.settings import Settings
from server.trainers import Trainers
from server.training_jobs import TrainingJobs, TrainingLimits
from server.training_resume import TrainingResumption
from server.uploads import Uploads


class TrainingParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the services of training stand on."""

    settings: Settings
    db: Database
    bus: Bus
    objects: ObjectStore
    uploads: Uploads
    pipelines: Pipelines
    deployments: Deployments
    backlog: Backlog
    cancellations: JobCancellations
    #: Called after each commit that put something into the outbox.
    wake: Callable[[], None]


class TrainingServices(msgspec.Struct, frozen=True, kw_only=True):
    """From rows to models."""

    trainers: Trainers
    datasets: Datasets
    training_jobs: TrainingJobs
    models: Models
    deployments: Deployments
    generations: Generations


async def start_training_services(parts: TrainingParts, stack: AsyncExitStack) -> TrainingServices:
    """Make the services, and start those that work in the background until the stack is closed."""
    db, objects, settings = parts.db, parts.objects, parts.settings
    trainers = Trainers(parts.bus)
    for service in (trainers, Leftovers(db, objects, parts.uploads)):
        await service.start()
        stack.push_async_callback(service.close)
    dispatch = Dispatch(trainers=trainers, backlog=parts.backlog, wake=parts.wake)
    limits = TrainingLimits(
        max_open_of_user=settings.max_open_trainings_per_user, max_seconds=settings.max_training_seconds
    )
    resumption = TrainingResumption(db, parts.bus)
    return TrainingServices(
        trainers=trainers,
        datasets=Datasets(
            db,
            objects,
            parts.uploads,
            dispatch,
            parts.cancellations,
            max_of_user=settings.max_datasets_per_user,
        ),
        training_jobs=TrainingJobs(db, objects, resumption, dispatch, limits=limits),
        models=Models(db, objects, parts.pipelines),
        deployments=parts.deployments,
        generations=Generations(db, parts.uploads, dispatch),
    )
