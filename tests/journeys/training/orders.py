"""What the journeys train, in a size for every day and in the full one of `make journeys`."""

import os
from typing import Final

from tests.journeys.training.trainee import Order

#: Rows and steps are those of a real training; minutes each on two cores.
FULL: Final = os.environ.get("TOWHEE_API_JOURNEYS") == "full"
#: How long one training may take here.
WITHIN_S: Final = 1800.0 if FULL else 180.0

GARMENTS: Final = 20_000 if FULL else 2_000
GAN: Final = Order(
    name="garments",
    trainer={"gan": {"width": 32 if FULL else 12, "learningRate": 1e-3, "batchSize": 64 if FULL else 32}},
    max_steps=3000 if FULL else 120,
)

DIGITS: Final = Order(
    name="digits",
    trainer={"autoencoder": {"kind": "VAE", "latentDim": 16, "net": "MLP"}},
    max_steps=3000 if FULL else 400,
)
NEWS: Final = Order(
    name="news",
    trainer={"autoencoder": {"latentDim": 32, "vocabularySize": 2000}},
    max_steps=2000 if FULL else 200,
)

NAMES: Final = Order(
    name="names",
    trainer={"rnn": {"task": "CLASSIFIER", "hidden": 64, "learningRate": 5e-3}},
    max_steps=3000 if FULL else 300,
)
PLAYS: Final = 1_000_000 if FULL else 100_000
SHAKESPEARE: Final = Order(
    name="plays",
    trainer={
        "rnn": {
            "task": "LANGUAGE_MODEL",
            "hidden": 128 if FULL else 64,
            "learningRate": 1e-2,
            "prompt": "KING ",
        }
    },
    max_steps=2500 if FULL else 200,
)

MNIST: Final = 20_000 if FULL else 4_000
FEW_LABELS: Final = Order(
    name="few labels",
    trainer={
        "semiSupervised": {
            "method": "FIXMATCH", "labelsPerClass": 10, "threshold": 0.7, "width": 32 if FULL else 16,
        }
    },
    max_steps=1500 if FULL else 250,
)  # fmt: skip

CIFAR: Final = 10_000 if FULL else 600
FINE_TUNED: Final = Order(
    name="photographs",
    trainer={"fineTune": {"method": "FULL" if FULL else "PROBE", "imageSize": 96 if FULL else 64}},
    max_steps=600 if FULL else 100,
)
