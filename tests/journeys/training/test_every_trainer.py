"""From a file of real data to a hosted pipeline of one's own: one journey a trainer, over GraphQL.

`make journeys` takes them at full size.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.journeys.training import orders
from tests.journeys.training.files import (
    picture,
    pictures_npz,
    pictures_zip,
    shakespeare,
    texts_csv,
    texts_jsonl,
)
from tests.journeys.training.trainee import Order, Trained, Trainee, Vectors
from tests.support.api import ApiClient
from tests.support.stack import RunningStack
from workers.nets.manifest import Artifact


@pytest.fixture
async def trainee(stack: RunningStack) -> Trainee:
    """Somebody who has just signed up and made a key that may train."""
    return Trainee(await ApiClient.sign_up(stack.url, scopes=("EMBED", "READ", "TRAIN")))


async def journey(
    trainee: Trainee, dataset_id: str, order: Order, inputs: list[str] | list[bytes], folder: Path
) -> tuple[Trained, Vectors]:
    """Train, watch, deploy and embed; what is true of every training is asserted here."""
    trained = await trainee.train(dataset_id, order, within_s=orders.WITHIN_S)
    _check_events(trained)
    pipeline = await trainee.deploy(trained.model_id, order.name.replace(" ", "-"))
    vectors = await trainee.embed(pipeline, inputs)
    assert vectors.shape == (len(inputs), trained.model["dimension"])
    np.testing.assert_allclose(
        vectors, own_vectors(await trainee.download(trained, folder), inputs), atol=1e-5
    )
    return trained, vectors


def _check_events(trained: Trained) -> None:
    states = [event["state"] for event in trained.of_kind("JobStateChanged")]
    assert ["QUEUED", "RUNNING", "SUCCEEDED"] == states
    progress = trained.of_kind("TrainingProgressed")
    steps = [event["step"] for event in progress]
    assert steps == sorted(steps)
    assert progress[-1]["step"] == progress[-1]["totalSteps"]
    assert trained.of_kind("CheckpointSaved")
    assert len({event["cursor"] for event in trained.events}) == len(trained.events)


def own_vectors(artifact: Artifact, inputs: list[str] | list[bytes]) -> Vectors:
    """What the encoder gives in this process, of unit length as everything that is hosted."""
    items = [item if isinstance(item, str) else opened(item) for item in inputs]
    vectors = artifact.embed(items)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def opened(content: bytes) -> Image.Image:
    """The picture of a file."""
    return Image.open(BytesIO(content))


def first_and_last(trained: Trained, name: str) -> tuple[float, float]:
    """A metric of the first progress that has it, and of the last."""
    values = [
        metric["value"]
        for event in trained.of_kind("TrainingProgressed")
        for metric in event["metrics"]
        if metric["name"] == name
    ]
    return values[0], values[-1]


async def test_a_gan_of_garments(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset(
        "garments", "garments.npz", pictures_npz("fashion_mnist", orders.GARMENTS)
    )

    inputs = [picture("fashion_mnist", number) for number in range(3)]
    trained, _ = await journey(trainee, dataset, orders.GAN, inputs, tmp_path)

    grids = trained.of_kind("SamplesGenerated")
    content = (await trainee.client.http.get(grids[-1]["imageUrl"])).raise_for_status().content
    assert np.asarray(opened(content)).std() > 10


async def test_an_autoencoder_of_digits(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset("digits", "digits.zip", pictures_zip("digits", 1400))

    inputs = [picture("digits", number) for number in range(3)]
    trained, _ = await journey(trainee, dataset, orders.DIGITS, inputs, tmp_path)

    first, last = first_and_last(trained, "epoch_loss")
    assert last < 0.8 * first


async def test_an_autoencoder_of_news(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset("news", "news.jsonl", texts_jsonl("bbc_news"))

    inputs = ["The bank has raised its rates.", "They won the cup after penalties."]
    trained, _ = await journey(trainee, dataset, orders.NEWS, inputs, tmp_path)

    first, last = first_and_last(trained, "epoch_loss")
    assert last < first


async def test_a_recurrent_classifier_of_names(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset("names", "names.csv", texts_csv("names", 4000))

    trained, _ = await journey(trainee, dataset, orders.NAMES, ["Giovanni", "Ivanov"], tmp_path)

    classes = trained.model["job"]["dataset"]["classes"]
    assert trained.metrics["accuracy"] > 3 / len(classes)


async def test_a_recurrent_model_of_shakespeare(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset("plays", "plays.txt", shakespeare(orders.PLAYS))

    trained, _ = await journey(trainee, dataset, orders.SHAKESPEARE, ["To be, or not to be"], tmp_path)

    texts = [event["text"] for event in trained.of_kind("SamplesGenerated")]
    assert texts[-1].startswith("KING ")
    first, last = first_and_last(trained, "epoch_loss")
    assert last < first


async def test_few_labels_of_mnist(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset("mnist", "mnist.npz", pictures_npz("mnist", orders.MNIST))

    inputs = [picture("mnist", number) for number in range(3)]
    trained, _ = await journey(trainee, dataset, orders.FEW_LABELS, inputs, tmp_path)

    assert trained.metrics["accuracy"] > (0.9 if orders.FULL else 0.6)


async def test_a_fine_tuned_model_of_photographs(trainee: Trainee, tmp_path: Path) -> None:
    dataset = await trainee.dataset("photographs", "photographs.zip", pictures_zip("cifar10", orders.CIFAR))

    inputs = [picture("cifar10", number) for number in range(3)]
    trained, _ = await journey(trainee, dataset, orders.FINE_TUNED, inputs, tmp_path)

    assert trained.metrics["accuracy"] > 0.4
