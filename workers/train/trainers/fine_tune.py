"""Fine-tuning of what an operator of Towhee's runs: a linear probe, all of it, or all but its lowest stages.

Legend: B batch, H height, W width, C channels, L tokens, D width, K classes, T tokens of all rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
from torch import Generator, Tensor, nn

from workers.nets.contracts import ImageInput, InputContract
from workers.nets.pretrained import as_net, lite0_input
from workers.nets.staged import Headed, Hidden, StagedNet
from workers.nets.table import part_of
from workers.nets.validation import InvalidConfig, Problem
from workers.train.base import Step
from workers.train.base.batches import split_batch
from workers.train.base.core import unwrapped
from workers.train.base.networks import optimizer_options
from workers.train.configs.fine_tune import FineTuneOptions
from workers.train.data.augment import Transform, flip, shift
from workers.train.data.loaders import Batch, EpochLoader, Loader, LoadPlan, Ragged
from workers.train.export import Encoder, EncodingTrainer
from workers.train.rng import isolated_rng


class FineTuneTrainer(EncodingTrainer):
    """Trains a classifier on an operator's encoder, and as much of the encoder as the options say.

    ``model`` is a net of `workers.nets.pretrained`, the module inside an operator (whose weights are trained
    in place), or the ``model`` of another FineTuneTrainer, whose classifier is trained on. Rows are pairs of
    inputs and labels; pictures may be uint8, and are then scaled by the input contract.
    """

    options_type: ClassVar = FineTuneOptions
    options: FineTuneOptions
    model: Headed

    def __init__(
        self,
        model: nn.Module | None = None,
        *arguments: Any,  # noqa: ANN401  as BaseTrainer's
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, *arguments, **keywords)
        options = self.options
        if model is None:
            raise ValueError("fine-tuning needs a model")
        headed = self._headed(model)
        num_stages = headed.backbone.num_stages
        problems = list(_misfits(options, headed.backbone))
        if problems:
            raise InvalidConfig(problems)
        headed.dropout.p = options.dropout
        headed.freeze(num_stages if options.method == "probe" else options.frozen_stages)
        self.model = headed
        self._augment = _AUGMENTATIONS[options.augment]
        self._side: int | None = None

    def _headed(self, model: nn.Module) -> Headed:
        wanted = self.options.num_classes
        path = ("options", "num_classes")
        if isinstance(model, Headed):
            found = model.head.out_features
            if wanted not in {None, found}:
                raise InvalidConfig([Problem(path, f"is {wanted}, and the model's classifier has {found}")])
            return model
        if wanted is None:
            raise InvalidConfig([Problem(path, "is required: the model has no classifier yet")])
        with isolated_rng(self.configs.seed):
            return Headed(as_net(model), wanted)

    def forward_step(self, model: nn.Module, batch: Batch) -> Step:
        """Classify."""
        inputs, targets = split_batch(batch)
        if model.training and self._augment is not None:
            inputs = self._augment(inputs, torch.default_generator)
        logits_BK: Tensor = model(self._scaled(inputs))
        return Step(self.loss(logits_BK, targets), logits_BK, targets, rows=len(targets))

    @torch.no_grad()
    def predict(self, inputs: Any) -> Any:  # noqa: ANN401  as BaseTrainer's
        """Logits (B, K) in eval mode."""
        return super().predict(self._scaled(inputs))

    def parameter_groups(self, name: str, module: nn.Module) -> Sequence[Mapping[str, Any]]:
        """The classifier, then the stages that learn, the highest first, each with its rate."""
        del module
        backbone = self.model.backbone
        lr = cast("float", optimizer_options(self.configs, self.options, name).lr)
        groups: list[dict[str, Any]] = [{"params": list(self.model.head.parameters()), "lr": lr}]
        rate = lr * self.options.backbone_rate
        for stage in reversed(range(self.model.num_frozen, backbone.num_stages)):
            groups.append({"params": backbone.stage_parameters(stage), "lr": rate})
            rate *= self.options.rate_decay
        return groups

    def set_train_mode(self, model: nn.Module) -> None:
        """Training mode, but for batch norms that keep the statistics they came with."""
        super().set_train_mode(model)
        self._keep_statistics()

    def _keep_statistics(self) -> None:
        keeps_all = self.options.batch_norm == "frozen"
        for module in self.model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d) and (keeps_all or not module.weight.requires_grad):
                module.eval()

    # What is computed once.

    def get_train_dataloader(self) -> Loader:
        """The training data, or what the frozen stages make of it."""
        return self._fed(super().get_train_dataloader(), self.train_dataset, self.train_plan())

    def get_eval_dataloader(self) -> Loader | None:
        """The evaluation data, or what the frozen stages make of it."""
        loader = super().get_eval_dataloader()
        return None if loader is None else self._fed(loader, self.eval_dataset, self.eval_plan())

    def load(self, path: str | Path) -> None:
        """As BaseTrainer's; what other weights made of the evaluation data is forgotten."""
        super().load(path)
        self._eval_loader = None

    def _fed(self, loader: Loader, dataset: Any, plan: LoadPlan) -> Loader:  # noqa: ANN401
        """A loader of cached rows, or the one that is given when there is nothing to cache."""
        if not (self.options.cache and self.model.num_frozen) or dataset is None:
            return loader
        if not isinstance(loader, EpochLoader) or loader is dataset:
            self.warn("not_cached", "only datasets are computed beforehand, not loaders or iterables")
            return loader
        whole = plan._replace(
            batch_size=self.configs.eval_batch_size, shuffle=False, drop_last=False, rank=0, world_size=1
        )
        cached = self._cached(self.make_loader(unwrapped(dataset), whole))
        return self.make_loader(cached.columns, plan, transform=cached.rebuild)

    @torch.no_grad()
    def _cached(self, rows: Loader) -> "_Cached":
        self._keep_statistics()
        found = _Cached()
        with isolated_rng(self.configs.seed), self.autocast():
            for given in rows:
                inputs, targets = split_batch(self.prepare_inputs(given))
                found.add(self.model.frozen(self._scaled(inputs)), targets)
        return found.closed()

    # Odds and ends.

    def encoder(self) -> Encoder:
        """The encoder without the classifier; its vectors have unit length, as those of the operators."""
        net = self.model.backbone
        contract = self._contract()
        if contract is None:
            raise ValueError("an encoder of texts needs describe_input(contract, tokenizer)")
        return Encoder(part_of(net, net.net_name), contract, self.tokenizer, normalize=True)

    def _contract(self) -> InputContract | None:
        if self.input_contract is None and self.model.backbone.takes == "pictures":
            return lite0_input() if self._side is None else lite0_input(self._side)
        return self.input_contract

    def _scaled(self, inputs: Any) -> Any:  # noqa: ANN401  any nesting of tensors
        if not isinstance(inputs, Tensor):
            return inputs
        self._side = inputs.shape[-1]
        contract = self._contract()
        if inputs.dtype == torch.uint8 and isinstance(contract, ImageInput):
            return contract.scale(inputs)
        return inputs


def _misfits(options: FineTuneOptions, backbone: StagedNet) -> Iterator[Problem]:
    """Options that mean nothing for this encoder."""
    if options.frozen_stages > backbone.num_stages:
        yield Problem(("options", "frozen_stages"), f"is over the {backbone.num_stages} that there are")
    if options.augment != "none" and backbone.takes != "pictures":
        yield Problem(("options", "augment"), f"is for pictures, and the encoder takes {backbone.takes}")


class _Cached:
    """What the frozen stages made of all rows, by row; tokens are kept without their padding."""

    def __init__(self) -> None:
        self.columns: dict[str, Tensor | Ragged] = {}
        self._values: list[Tensor] = []
        self._lengths: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._tokens: Tensor | None = None

    def add(self, hidden: Hidden, targets: Tensor) -> None:
        """One batch."""
        values = hidden.values.float()
        if hidden.lengths is not None:
            places = torch.arange(values.shape[1], device=values.device)
            values = values[places < hidden.lengths[:, None]]
            self._lengths.append(hidden.lengths)
        self._values.append(values)
        self._targets.append(targets)

    def closed(self) -> "_Cached":
        """Make the columns for a loader, of which `rebuild` makes batches."""
        values = torch.cat(self._values)
        if self._lengths:
            ends = torch.cat(self._lengths).cumsum(0)
            # The loader pads numbers of tokens, and `rebuild` looks the tokens up.
            places = torch.arange(len(values), device=values.device)
            self.columns["at"] = Ragged(places, torch.cat([ends.new_zeros(1), ends]))
            self._tokens = values
        else:
            self.columns["at"] = values
        self.columns["labels"] = torch.cat(self._targets)
        self._values, self._lengths, self._targets = [], [], []
        return self

    def rebuild(self, batch: Mapping[str, Tensor], generator: Generator) -> tuple[Hidden, Tensor]:
        """What the frozen stages would give for the batch, and its labels."""
        del generator
        if self._tokens is None:
            return Hidden(batch["at"]), batch["labels"]
        return Hidden(self._tokens[batch["at"]], batch["at_lengths"]), batch["labels"]


def _shift_and_mirror(x_BCHW: Tensor, generator: Generator) -> Tensor:
    return flip(shift(x_BCHW, generator, most=x_BCHW.shape[-1] // 8), generator)


_AUGMENTATIONS: Mapping[str, Transform | None] = MappingProxyType(
    {"none": None, "mirror": flip, "shift_and_mirror": _shift_and_mirror}
)
