"""What a child runs in tests: a small real trainer on real digits, behind the real modules' functions.

Words in a training's name make it misbehave: `slow`, `dies`, `stuck`, `greedy`, `diverges`, `refused`, and
`unwell`, whose second process has a loss that is no number.
"""

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from sklearn.datasets import load_digits
from torch import nn

from bus.messages import GenerationSpec, TrainingSpec
from workers.train import together
from workers.train._towhee import Callback, TrainingConfig
from workers.train.base import BaseTrainer, Step, TrainingDiverged
from workers.train.configs import CheckpointOptions, TrainerOptions
from workers.train.report import Report, Samples
from workers.train.together import Together

DATA_FILE = "data.json"
#: Seconds that each step of a slow training takes at least.
SLOW_STEP_S = 0.02
#: The step in which a training's second process becomes unwell.
UNWELL_AT = 7
NUM_ROWS = 1200

num_processes = together.num_processes


class PreparedError(Exception):
    pass


class CannotTrain(Exception):
    def __init__(self, message: str, advice: str, row: int) -> None:
        super().__init__(message)
        self.code, self.message, self.advice, self.row = "INVALID_INPUT", message, advice, row


class FileSource(msgspec.Struct):
    path: Path
    name: str
    media_type: str


class SampleSource(msgspec.Struct):
    name: str


class Issue(msgspec.Struct):
    row: int | None
    message: str


class Findings(msgspec.Struct, kw_only=True):
    is_usable: bool
    kind: str | None = None
    modality: str | None = None
    sha256: str = ""
    num_rows: int = 0
    classes: list[str] = []
    class_counts: list[int] = []
    num_unlabelled: int = 0
    splits: dict[str, int] = {}
    issues: list[Issue] = []
    num_issues: int = 0
    shape: list[int] | None = None
    num_tokens: int | None = None


class Exported(msgspec.Struct, kw_only=True):
    sha256: str
    dimension: int
    modality: str | None
    metrics: dict[str, float]
    generates: str | None


def installed_samples() -> list[str]:
    return ["digits"]


def validate(source: FileSource | SampleSource, folder: Path) -> Findings:
    """A line is a row; `bad` has an issue, `poison` ends the process, `hungry` takes 3 GB of memory."""
    lines = ["one", "two"] if isinstance(source, SampleSource) else source.path.read_text().splitlines()
    if "poison" in lines:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hungry" in lines:
        bytearray(3 << 30)
    if "forever" in lines:
        while True:
            sum(range(1000))
    good = [line for line in lines if line != "bad"]
    issues = [Issue(row, "is bad " + "€" * 200) for row, line in enumerate(lines, start=1) if line == "bad"]
    if not good:
        return Findings(is_usable=False, issues=issues[:1000], num_issues=len(issues))
    (folder / DATA_FILE).write_text(json.dumps(good))
    (folder / "images").mkdir()
    (folder / "images" / "0.png").write_bytes(b"a picture")
    (folder / "inputs.json").write_text(json.dumps([{"text": "one"}, {"image": "images/0.png"}]))
    return Findings(
        is_usable=True,
        kind="texts",
        modality="TEXT",
        sha256=hashlib.sha256("\n".join(good).encode()).hexdigest(),
        num_rows=len(good),
        splits={"train": len(good), "test": 0},
        issues=issues[:1000],
        num_issues=len(issues),
    )


def open_prepared(folder: Path) -> list[str]:
    prepared: list[str] = json.loads((folder / DATA_FILE).read_text())
    return prepared


class Misbehaving(Callback):
    def __init__(self, trainer: BaseTrainer, name: str, report: Report) -> None:
        super().__init__()
        self._trainer = trainer
        self._name = name
        self._report = report
        self._hoard: list[bytearray] = []

    def on_train_batch_end(self, batch: Any, logs: dict[str, Any]) -> None:
        step = self._trainer.micro_step
        if step == 20:
            self._report(Samples(step=step, name="text", media_type="text/plain", content=b"0 1 2"))
        if "slow" in self._name:
            time.sleep(SLOW_STEP_S)
        if step < 5:
            return
        if "dies" in self._name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "stuck" in self._name:
            time.sleep(3600)
        if "greedy" in self._name:
            self._hoard.append(bytearray(os.urandom(1 << 20) * 64))
        if "diverges" in self._name:
            raise TrainingDiverged(step, "the loss is nan", None)


class Digits(Together, BaseTrainer):
    """A classifier whose steps draw from torch's generator, as many do."""

    def forward_step(self, model: nn.Module, batch: Any) -> Step:
        x, y = batch
        if model.training:
            x = x + 0.1 * torch.randn_like(x)
            if self.is_unwell and self.micro_step == UNWELL_AT:
                x = x * torch.nan
        return super().forward_step(model, (x, y))

    @property
    def is_unwell(self) -> bool:
        return "unwell" in self.model_card.model_name and self.processes.rank == 1


def build_trainer(
    spec: TrainingSpec,
    prepared: list[str],
    folder: Path,
    report: Report,
    *,
    parent: Path | None = None,
    device: str | None = None,
    checkpoint_every_s: float = 60.0,
    processes: int = 1,
) -> Digits:
    del parent
    if "refused" in spec.name:
        raise CannotTrain("the data don't fit", "take other data", row=7)
    digits = load_digits()
    x = torch.tensor(digits.images[:NUM_ROWS], dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target[:NUM_ROWS])
    torch.manual_seed(spec.seed)
    width = len(prepared) * 8
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, width), nn.Dropout(0.2),
        nn.ReLU(), nn.Linear(width, 10),
    )  # fmt: skip
    config = TrainingConfig(
        output_dir=str(folder),
        batch_size=spec.parameters.batch_size // processes,
        epoch_num=spec.parameters.epochs,
        lr=spec.parameters.learning_rate,
        seed=spec.seed,
        metric="Accuracy",
        eval_strategy="steps",
        eval_steps=50,
        early_stopping=None,
        model_checkpoint=None,
        tensorboard=None,
        print_steps=None,
        device_str=device,
    )
    options = TrainerOptions(
        max_steps=spec.max_steps,
        max_seconds=spec.max_seconds,
        checkpoints=CheckpointOptions(every_s=checkpoint_every_s, keep=2),
    )
    trainer = Digits(net, config, (x, y), (x[:200], y[:200]), options=options, report=report)
    trainer.model_card.model_name = spec.name
    trainer.add_callback(Misbehaving(trainer, spec.name, report))
    return trainer


def total_steps(trainer: BaseTrainer) -> int:
    return trainer.options.max_steps or 0


def export_model(trainer: BaseTrainer, prepared: list[str], folder: Path, *, data_name: str) -> Exported:
    del prepared
    (folder / "encoder").mkdir(parents=True)
    (folder / "net").mkdir()
    weights = b"".join(weight.detach().numpy().tobytes() for weight in trainer.model.state_dict().values())
    (folder / "encoder" / "weights.bin").write_bytes(weights)
    manifest = json.dumps({"data": data_name, "weights": hashlib.sha256(weights).hexdigest()})
    (folder / "encoder" / "manifest.json").write_text(manifest)
    (folder / "net" / "manifest.json").write_text("{}")
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    metrics = {"accuracy": 0.9, "nonsense": float("nan")}
    return Exported(sha256=digest, dimension=10, modality="IMAGE", metrics=metrics, generates=None)


def generate(model: Path, spec: GenerationSpec, classes: list[str], out: Path) -> str:
    assert (model / "net" / "manifest.json").is_file()
    for number in range(spec.count):
        (out / f"{number:04}.txt").write_text(f"{classes[number % len(classes)]} {spec.seed}")
    return "text/plain"
