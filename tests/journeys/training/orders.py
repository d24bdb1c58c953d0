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
    trainer={
        "gan": {
            "width": 32 if FULL else 16,
            "batchSize": 32,
            "learningRate": 1e-3,
            "discriminatorLearningRate": 5e-4,
            "schedule": "COSINE",
        }
    },
    max_steps=3000 if FULL else 150,
)

DIGITS: Final = Order(
    name="digits",
    trainer={
        "autoencoder": {
            "kind": "PLAIN",
            "latentDim": 16,
            "learningRate": 3e-3,
            "schedule": "COSINE",
            "epochs": 100 if FULL else 20,
        }
    },
)
NEWS: Final = Order(
    name="news",
    trainer={"autoencoder": {"latentDim": 32, "learningRate": 2e-3, "schedule": "COSINE"}},
    max_steps=1000 if FULL else 150,
)

NAMES: Final = Order(
    name="names",
    trainer={
        "rnn": {
            "task": "CLASSIFIER", "hidden": 64, "embeddingDim": 32, "schedule": "COSINE", "warmupSteps": 50,
        }
    },
    max_steps=3000 if FULL else 400,
)  # fmt: skip
PLAYS: Final = 1_000_000 if FULL else 100_000
SHAKESPEARE: Final = Order(
    name="plays",
    trainer={
        "rnn": {
            "task": "LANGUAGE_MODEL",
            "hidden": 128 if FULL else 64,
            "sequenceLength": 64 if FULL else 32,
            "batchSize": 16,
            "learningRate": 4e-3,
            "schedule": "COSINE",
            "prompt": "KING ",
        }
    },
    max_steps=5000 if FULL else 300,
)

MNIST: Final = 20_000 if FULL else 4_000
FEW_LABELS: Final = Order(
    name="few labels",
    trainer={
        "semiSupervised": {
            "method": "FIXMATCH", "labelsPerClass": 10, "threshold": 0.7, "width": 16, "schedule": "COSINE",
        }
    },
    max_steps=1500 if FULL else 150,
)  # fmt: skip

CIFAR: Final = 10_000 if FULL else 600
FINE_TUNED: Final = Order(
    name="photographs",
    trainer={
        "fineTune": {
            "method": "FULL" if FULL else "PROBE",
            "imageSize": 96 if FULL else 64,
            "schedule": "COSINE",
            "epochs": 3 if FULL else 8,
        }
    },
)
