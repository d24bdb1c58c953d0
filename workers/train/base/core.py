"""What all parts of a trainer share: its constructor, its state, and the hooks that a subclass fills in."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from workers.nets.contracts import InputContract
from workers.nets.validation import check
from workers.train._towhee import ModelCard, TowheeDataSet, Trainer, TrainerControl, TrainingConfig
from workers.train.base.batches import apply_model, num_rows, split_batch, to_device
from workers.train.base.callbacks import Hooks, Logs
from workers.train.base.distributed import Processes
from workers.train.base.metrics import Metric
from workers.train.base.modelcard import ModelCard as OurModelCard
from workers.train.base.networks import MAIN, Network
from workers.train.base.stopping import Watch
from workers.train.base.tally import Step, Tally
from workers.train.configs import TrainerOptions
from workers.train.report import Reason, Report, Warned, ignore

_log = logging.getLogger(__name__)


class Core(Trainer):
    """Constructor, attributes and hooks. Use `workers.train.base.BaseTrainer`."""

    #: The struct that ``options`` must be; a subclass names its own.
    options_type: ClassVar[type[TrainerOptions]] = TrainerOptions

    def __init__(  # noqa: PLR0913, PLR0917  Towhee's constructor, and by keyword what it has no word for
        self,
        model: nn.Module | None = None,
        training_config: TrainingConfig | None = None,
        train_dataset: Any = None,  # noqa: ANN401  tensors, datasets, iterables
        eval_dataset: Any = None,  # noqa: ANN401
        train_dataloader: Any = None,  # noqa: ANN401
        eval_dataloader: Any = None,  # noqa: ANN401
        model_card: ModelCard | None = None,
        *,
        options: TrainerOptions | None = None,
        report: Report = ignore,
    ) -> None:
        training_config = training_config or TrainingConfig(output_dir="tmp_trainer")
        options = options or self.options_type()
        if not isinstance(options, self.options_type):
            raise TypeError(
                f"{type(self).__name__} takes {self.options_type.__name__}, not {type(options).__name__}"
            )
        # Towhee makes the folder itself, but not its parents.
        Path(training_config.output_dir).mkdir(parents=True, exist_ok=True)
        card = model_card if isinstance(model_card, ModelCard) else OurModelCard()
        super().__init__(model, training_config, None, None, train_dataloader, eval_dataloader, card)
        self.train_dataset = unwrapped(train_dataset)
        self.eval_dataset = unwrapped(eval_dataset)
        self.options = check(options, ("options",))
        self.report = report
        self.input_contract: InputContract | None = None
        self.tokenizer: Tokenizer | None = None
        self.micro_step = 0
        self.networks_by_name: dict[str, Network] = {}
        self.processes = Processes()
        self.device = torch.device("cpu")
        self.trainercontrol = TrainerControl()
        self.metric: Metric | None = None
        self.tally = Tally(None)
        self.watch = Watch("eval_epoch_loss", "min", patience=None)
        self.logs = Logs(dict)
        self.hooks = Hooks([])
        self.scaler: torch.amp.GradScaler | None = None
        self.finish_reason: Reason | None = None
        self._in_epoch = False
        self._own_loss = type(self).compute_loss is not Core.compute_loss

    # Hooks for subclasses, from the most to the least often filled in.

    def forward_step(self, model: nn.Module, batch: Any) -> Step:  # noqa: ANN401  whatever the loader gives
        """One forward pass with its loss. Also used for evaluation, then in eval mode and without gradients.

        The default learns targets from inputs with TrainingConfig.loss.
        """
        if self._own_loss:
            return Step(self.compute_loss(model, batch), rows=num_rows(batch))
        inputs, targets = split_batch(batch)
        outputs = apply_model(model, inputs)
        return Step(self.loss(outputs, targets), outputs, targets, rows=len(targets))

    def networks(self) -> Mapping[str, nn.Module]:
        """The modules that get an optimizer each, by name; updates of the first are counted as steps."""
        return {MAIN: self.model}

    def parameter_groups(self, name: str, module: nn.Module) -> Sequence[Mapping[str, Any]]:
        """The parameter groups of one network's optimizer: by default one, of all parameters that learn."""
        del name
        return [{"params": [parameter for parameter in module.parameters() if parameter.requires_grad]}]

    def batches_per_step(self) -> int:
        """Batches that make one step (one update of the main network)."""
        return self.options.accumulate

    def updates_per_step(self, name: str) -> int:
        """Updates of one network in a step: more than one for a critic, say. Its schedule counts steps."""
        del name
        return 1

    def warmup_steps(self) -> int:
        """Steps in which the loss is not yet the one to be judged by: early stopping doesn't count them."""
        return 0

    def evaluation_step(self, model: nn.Module, batch: Any) -> Step:  # noqa: ANN401
        """One batch of an evaluation."""
        return self.forward_step(model, batch)

    def begin_evaluation(self) -> None:
        """Called before each evaluation; a place to put hidden state aside."""

    def end_evaluation(self, model: nn.Module) -> dict[str, float]:
        """Called after an evaluation's batches, in eval mode; gives further metrics, without ``eval_``."""
        del model
        return {}

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Numbers to show that are no means themselves, out of the means (``epoch_loss`` and each value).

        A perplexity, say. An evaluation's get ``eval_`` before their names.
        """
        del means
        return {}

    def look(self) -> None:
        """Called a few times a second, when the sums are up to date; a place to warn, not to change anything.

        When that is depends on the clock, so what training depends on must not be decided here.
        """

    def begin_epoch(self) -> None:
        """Called when an epoch begins, not when one is resumed in the middle."""

    def watched_metric(self) -> tuple[str, str]:
        """The logged number, and min or max, that say which model is best when TrainingConfig doesn't."""
        if self.metric is None:
            return "eval_epoch_loss", "min"
        return "eval_epoch_metric", "max" if self.metric.higher_is_better else "min"

    def extra_state(self) -> dict[str, Any]:
        """What else a checkpoint has to hold, as plain data and tensors."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take what `extra_state` gave."""

    def compute_loss(self, model: nn.Module, inputs: Any) -> Tensor:  # noqa: ANN401
        """Towhee's hook: the loss of a batch. The model's mode is left as it is."""
        return self.forward_step(model, inputs).loss

    # What everybody needs.

    @property
    def global_step(self) -> int:
        """Updates of the main network so far."""
        return self.micro_step // self.batches_per_step()

    def prepare_inputs(self, inputs: Any) -> Any:  # noqa: ANN401
        """The batch on this trainer's device."""
        return to_device(inputs, self.device)

    def set_train_mode(self, model: nn.Module) -> None:
        """Training mode, with batch statistics frozen if TrainingConfig.freeze_bn says so."""
        model.train()
        if self.configs.freeze_bn:
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  the base of all kinds
                    module.eval()

    def describe_input(self, contract: InputContract, tokenizer: Tokenizer | None = None) -> None:
        """Say what a row of the data was made from, so that an exported encoder can be given the same."""
        self.input_contract = contract
        self.tokenizer = tokenizer

    def warn(self, code: str, message: str) -> None:
        """Tell the log and whoever started this."""
        _log.warning("%s", message)
        self.report(Warned(step=self.global_step, code=code, message=message))


def unwrapped(data: Any) -> Any:  # noqa: ANN401  tensors, datasets, iterables
    """The dataset inside Towhee's wrapper, or the thing itself."""
    return data.dataset if isinstance(data, TowheeDataSet) else data
