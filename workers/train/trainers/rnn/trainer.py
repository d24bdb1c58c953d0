"""RNNTrainer: what its tasks have in common."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Generator, Tensor, nn

from workers.nets.contracts import ImageInput, InputContract, TokensInput
from workers.nets.parts import Net
from workers.nets.sequences import SequenceConfig
from workers.nets.table import part_of
from workers.nets.validation import InvalidConfig, Problem, check
from workers.train.base import Step
from workers.train.configs.rnn import RNNOptions
from workers.train.data.augment import Transform, word_dropout
from workers.train.data.loaders import Batch, Loader, LoadPlan
from workers.train.export import Encoder, EncodingTrainer
from workers.train.rng import isolated_rng
from workers.train.trainers.rnn.labelling import Classifying, Tagging
from workers.train.trainers.rnn.language_model import LanguageModelling
from workers.train.trainers.rnn.seq2seq import Translating, write_greedily
from workers.train.trainers.rnn.task import Task

TASKS: Mapping[str, type[Task]] = MappingProxyType(
    {
        "language_model": LanguageModelling,
        "classifier": Classifying,
        "tagger": Tagging,
        "seq2seq": Translating,
    }
)


class RNNTrainer(EncodingTrainer):
    """Trains a net of `workers.nets.sequences` or `workers.nets.seq2seq`; `RNNOptions.task` says for what.

    Logged beside the loss: ``perplexity``, ``bits_per_token`` and ``bits_per_character`` of a language model;
    ``perplexity``, ``error_rate`` and ``sequence_error`` of sequence to sequence. Accuracy and F1 are
    TrainingConfig's metrics. The loss is a mean by token of a stream, by row of everything else.
    """

    options_type: ClassVar = RNNOptions
    options: RNNOptions

    def __init__(
        self,
        model: nn.Module | None = None,
        *arguments: Any,  # noqa: ANN401  as BaseTrainer's
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, *arguments, **keywords)
        kind = TASKS[self.options.task]
        problems = list(_misfits(self.model, kind, self.options))
        if problems:
            raise InvalidConfig(problems)
        self.task = kind(self)
        if self.options.word_dropout:
            self.train_transform = _dropping_words(self.options)

    def forward_step(self, model: nn.Module, batch: Batch) -> Step:
        """As the task does it."""
        return self.task.step(model, batch)

    def make_loader(self, data: Any, plan: LoadPlan, transform: Transform | None = None) -> Loader:  # noqa: ANN401
        """A stream of tokens for a language model, else as all trainers."""
        return self.task.make_loader(data, plan) or super().make_loader(data, plan, transform)

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Perplexities, bits and error rates."""
        return self.task.derived(means)

    def watched_metric(self) -> tuple[str, str]:
        """What says which model is best."""
        return self.task.watched_metric() or super().watched_metric()

    def describe_input(self, contract: InputContract, tokenizer: Tokenizer | None = None) -> None:
        """Say what tokens were made with; a language model then also counts bits a character."""
        super().describe_input(contract, tokenizer)
        if isinstance(self.task, LanguageModelling):
            self.task.describe()

    def begin_epoch(self) -> None:
        """Hidden states begin anew."""
        self.task.begin_epoch()

    def begin_evaluation(self) -> None:
        """Training's hidden state is left alone."""
        self.task.begin_evaluation()

    def end_evaluation(self, model: nn.Module) -> dict[str, float]:
        """Report what the task has to show."""
        return self.task.end_evaluation(model)

    def extra_state(self) -> dict[str, Any]:
        """The hidden state, where one is carried."""
        return self.task.extra_state()

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.task.load_extra_state(state)

    # What a trained net is for.

    def generate(self, prompt: str = "", *, seed: int = 0, **options: Any) -> str:  # noqa: ANN401
        """A text that goes on after ``prompt``, or one from its start token on.

        Args:
            prompt: what is given.
            seed: the same seed writes the same text, and leaves no trace in training.
            options: temperature, top_p and sample_length in the place of RNNOptions'.

        Raises:
            ValueError: there is no tokenizer, or this is no language model.
            InvalidConfig: an option can't be what it is.
        """
        if not isinstance(self.task, LanguageModelling):
            raise ValueError(f"a {self.options.task} writes no texts")  # noqa: TRY004  not a matter of types
        chosen = check(msgspec.structs.replace(self.options, **options), ("options",))
        self._ready()
        with self._evaluating(self.model), isolated_rng(seed):
            return self.task.written(self.model, prompt, chosen)

    @torch.no_grad()
    def translate(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """What a sequence-to-sequence net makes of rows of tokens, without start and end tokens."""
        options, lengths_B = self.options, torch.tensor([len(row) for row in sources])
        ids_BS = nn.utils.rnn.pad_sequence([torch.tensor(list(row)) for row in sources], batch_first=True)
        self._ready()
        with self._evaluating(self.model):
            out_BL, out_lengths_B = write_greedily(
                self.model,
                ids_BS.to(self.device),
                lengths_B.to(self.device),
                ends=(options.start, options.end),
                most=options.most_output,
            )
        lengths = out_lengths_B.tolist()
        return [row[:length] for row, length in zip(out_BL.tolist(), lengths, strict=True)]

    def encoder(self) -> Encoder:
        """The net without its head; its embedding is the pooled states.

        Raises:
            ValueError: the net takes texts, and there is no tokenizer.
        """
        net = cast("Net", self.model)
        contract = self.input_contract or self._contract_of(cast("SequenceConfig", net.config))
        if isinstance(contract, TokensInput) and self.tokenizer is None:
            raise ValueError("an encoder of texts needs its tokenizer: see describe_input")
        return Encoder(part_of(net, f"{net.net_name}_encoder"), contract, self.tokenizer)

    def _contract_of(self, config: SequenceConfig) -> InputContract:
        if config.row_size:
            return ImageInput(side=config.row_size)
        return TokensInput(max_length=self.options.most_input)


def _misfits(model: nn.Module, kind: type[Task], options: RNNOptions) -> Iterator[Problem]:
    """What the net can't do that the options ask for."""
    if type(model) is not kind.net_type:
        yield Problem(("options", "task"), f"{kind.net_type.__name__} learns {options.task}")
    elif options.word_dropout and options.unknown >= cast("SequenceConfig", model.config).vocabulary_size:
        yield Problem(("options", "word_dropout"), "the net's vocabulary has no unknown word")


def _dropping_words(options: RNNOptions) -> Transform:
    def drop(batch: Batch, generator: Generator) -> Batch:
        ids: Tensor = batch["ids"]
        return {
            **batch,
            "ids": word_dropout(ids, generator, rate=options.word_dropout, unknown=options.unknown),
        }

    return drop
