"""Trainings small enough for a round: seconds each, and different in what has to survive."""

from collections.abc import Mapping

import msgspec


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One training as a client asks for it."""

    #: The sample data set.
    data: str
    #: ``TrainerInput`` of the GraphQL contract.
    trainer: dict[str, dict[str, object]]
    seed: int
    max_steps: int


#: Pairs of networks, hidden state that is carried on, and noise that is drawn at every step.
RECIPES: Mapping[str, Recipe] = {
    "variational autoencoder": Recipe(
        data="digits",
        trainer={"autoencoder": {"kind": "VAE", "latentDim": 8, "net": "MLP", "batchSize": 32}},
        seed=1,
        max_steps=6000,
    ),
    "gan": Recipe(
        data="digits",
        trainer={"gan": {"width": 8, "latentDim": 16, "batchSize": 16}},
        seed=2,
        max_steps=400,
    ),
    "classifier of names": Recipe(
        data="names",
        trainer={"rnn": {"task": "CLASSIFIER", "hidden": 32, "embeddingDim": 16, "batchSize": 32}},
        seed=3,
        max_steps=800,
    ),
}
