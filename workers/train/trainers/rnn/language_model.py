"""The next token: over a stream with its hidden state carried, or over rows that each begin anew.

Legend: B batch, T tokens of a batch, V vocabulary.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from workers.nets.recurrent import Hidden, detach_hidden
from workers.nets.sequences import LanguageModel, LanguageOutput
from workers.train.base import Step
from workers.train.configs.rnn import RNNOptions
from workers.train.data.loaders import Batch, Loader, LoadPlan
from workers.train.data.streams import StreamLoader
from workers.train.data.vocabularies import characters_of
from workers.train.losses.sequences import IGNORED, activation_penalty, mean_by_row, temporal_penalty
from workers.train.report import Samples
from workers.train.trainers.rnn.sampling import draw
from workers.train.trainers.rnn.task import Task, masked

if TYPE_CHECKING:
    from workers.train.trainers.rnn.trainer import RNNTrainer


class LanguageModelling(Task):
    """Batches are (inputs, targets) of a `StreamLoader`, or a dict of ``ids`` and ``ids_lengths``."""

    net_type: ClassVar = LanguageModel

    def __init__(self, trainer: "RNNTrainer") -> None:
        super().__init__(trainer)
        self._hidden: Hidden | None = None
        self._eval_hidden: Hidden | None = None
        self._characters_V: Tensor | None = None

    def make_loader(self, data: Any, plan: LoadPlan) -> Loader | None:  # noqa: ANN401  whatever the user has
        """A row of tokens is a stream."""
        if isinstance(data, Tensor) and data.dim() == 1:
            return StreamLoader(data, plan, self._trainer.options.sequence_length)
        return None

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """Tell each token from those before it."""
        if isinstance(batch, Mapping):
            return self._row_step(model, batch["ids"], batch.get("ids_lengths"))
        return self._stream_step(model, *batch)

    def _stream_step(self, model: nn.Module, ids_BT: Tensor, targets_BT: Tensor) -> Step:
        carried = self._hidden if model.training else self._eval_hidden
        out: LanguageOutput = model(ids_BT, carried if self._trainer.options.carries_state else None)
        self._carry(detach_hidden(out.hidden), training=model.training)
        loss = self._loss_of(model, out.logits_BLV, targets_BT)
        values = {} if self._characters_V is None else {"characters": self._length_of(targets_BT).mean()}
        return self._told(model, out, loss, targets_BT, values, rows=targets_BT.numel())

    def _row_step(self, model: nn.Module, ids_BT: Tensor, lengths_B: Tensor | None) -> Step:
        inputs, targets = ids_BT[:, :-1], ids_BT[:, 1:]
        targets = masked(targets, None if lengths_B is None else lengths_B - 1)
        out: LanguageOutput = model(inputs)
        smoothing = self._trainer.options.label_smoothing if model.training else 0.0
        loss = mean_by_row(out.logits_BLV, targets, smoothing)
        counted = targets != IGNORED
        values = {"tokens": counted.sum() / len(ids_BT)}
        if self._characters_V is not None:
            lengths = self._length_of(targets.clamp(min=0)) * counted
            values["characters"] = lengths.sum() / len(ids_BT)
        return self._told(model, out, loss, targets, values, rows=len(ids_BT))

    def _told(
        self,
        model: nn.Module,
        out: LanguageOutput,
        loss: Tensor,
        targets: Tensor,
        values: dict[str, Tensor],
        rows: int,
    ) -> Step:
        options = self._trainer.options
        if options.activation_penalty or options.temporal_penalty or options.label_smoothing:
            values["nats"] = loss.detach()
        if model.training:
            if options.activation_penalty:
                loss = loss + options.activation_penalty * activation_penalty(out.dropped_BLH)
            if options.temporal_penalty:
                loss = loss + options.temporal_penalty * temporal_penalty(out.states_BLH)
        if not self._measures:
            return Step(loss, values=values, rows=rows)
        return Step(loss, out.logits_BLV.transpose(1, 2), targets, values, rows)

    def _length_of(self, targets: Tensor) -> Tensor:
        # Moved when it is used: a tokenizer is described before training knows its device.
        self._characters_V = cast("Tensor", self._characters_V).to(targets.device)
        return self._characters_V[targets]

    def _carry(self, hidden: Hidden, *, training: bool) -> None:
        if training:
            self._hidden = hidden
        else:
            self._eval_hidden = hidden

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Perplexity and bits a token; bits a character where tokens spell the text."""
        nats = means.get("nats", means["epoch_loss"])
        by_token = nats / means.get("tokens", 1.0)
        # Beyond e^700 there are no floats.
        found = {"perplexity": math.exp(min(by_token, 700.0)), "bits_per_token": by_token / math.log(2)}
        if means.get("characters"):
            found["bits_per_character"] = nats / math.log(2) / means["characters"]
        return found

    def watched_metric(self) -> tuple[str, str] | None:
        """The loss, also where a metric is shown."""
        return "eval_epoch_loss", "min"

    def describe(self) -> None:
        """Look up how long tokens are, once there is a tokenizer."""
        tokenizer = self._trainer.tokenizer
        found = None if tokenizer is None else characters_of(tokenizer)
        self._characters_V = None if found is None else found.float()

    def begin_epoch(self) -> None:
        """Streams begin anew."""
        self._hidden = None

    def begin_evaluation(self) -> None:
        """An evaluation has a hidden state of its own."""
        self._eval_hidden = None

    def end_evaluation(self, model: nn.Module) -> dict[str, float]:
        """Report texts."""
        trainer, options = self._trainer, self._trainer.options
        if options.num_samples and trainer.tokenizer is not None:
            texts = [self.written(model, options.prompt) for _ in range(options.num_samples)]
            content = "\n\n".join(texts).encode()
            trainer.report(
                Samples(step=trainer.global_step, name="texts", media_type="text/plain", content=content)
            )
        return {}

    @torch.no_grad()
    def written(self, model: nn.Module, prompt: str, options: RNNOptions | None = None) -> str:
        """The prompt and what is drawn after it, token by token, until there is an end token or enough.

        Raises:
            ValueError: there is no tokenizer.
        """
        trainer, options = self._trainer, options or self._trainer.options
        tokenizer = trainer.tokenizer
        if tokenizer is None:
            raise ValueError("a language model needs its tokenizer to write: see describe_input")
        ids = tokenizer.encode(prompt).ids or [options.start]
        out: LanguageOutput = model(torch.tensor([ids], device=trainer.device))
        written: list[int] = []
        while len(written) < options.sample_length:
            logits_BV = out.logits_BLV[:, -1].float()
            # A text holds no padding, nothing unknown and no second beginning.
            logits_BV[:, [0, options.unknown, options.start]] = -torch.inf
            token_B = draw(logits_BV, temperature=options.temperature, top_p=options.top_p)
            if int(token_B) == options.end:
                break
            written.append(int(token_B))
            out = model(token_B.unsqueeze(1), out.hidden)
        # Words have nothing that says how they are put together but the space between them.
        between = " " if prompt and tokenizer.decoder is None else ""
        return prompt + between + tokenizer.decode(written)

    def extra_state(self) -> dict[str, Any]:
        """The hidden state that the next batch goes on from."""
        return {"hidden": self._hidden}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._hidden = state["hidden"]
