"""What the service does with trainers: build one from a training's parameters, export it, generate."""

from workers.train.run.building import build_trainer, total_steps
from workers.train.run.exporting import Exported, export_model
from workers.train.run.generating import generate
from workers.train.run.order import Prepared
from workers.train.run.problems import CannotTrain
from workers.train.together import num_processes

__all__ = [
    "CannotTrain",
    "Exported",
    "Prepared",
    "build_trainer",
    "export_model",
    "generate",
    "num_processes",
    "total_steps",
]
