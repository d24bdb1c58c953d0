"""One sequence into another.

Legend: B batch, S source length, T target length, V vocabulary.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from workers.nets.seq2seq import Seq2Seq
from workers.train.base import Step
from workers.train.data.loaders import Batch
from workers.train.losses.sequences import IGNORED
from workers.train.trainers.rnn.edits import edit_distance
from workers.train.trainers.rnn.task import Task, masked


class Translating(Task):
    """Batches are a dict of ``ids`` (B, S) and ``target`` (B, T), each with its lengths where rows differ.

    A target begins with the start token and ends with the end token.
    """

    net_type: ClassVar = Seq2Seq

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """Tell each token of the target from the source and the tokens before it."""
        ids_BS, lengths_B = batch["ids"], batch.get("ids_lengths")
        target_BT, target_lengths_B = batch["target"], batch.get("target_lengths")
        logits_BTV = model(ids_BS, target_BT[:, :-1], lengths_B)
        targets_BT = masked(target_BT[:, 1:], None if target_lengths_B is None else target_lengths_B - 1)
        loss = self._loss_of(model, logits_BTV, targets_BT)
        values = {"tokens": (targets_BT != IGNORED).sum() / len(ids_BS)}
        if not model.training and self._trainer.options.decodes:
            values.update(self._errors(model, ids_BS, lengths_B, targets_BT))
        if not self._measures:
            return Step(loss, values=values, rows=len(ids_BS))
        return Step(loss, logits_BTV.transpose(1, 2), targets_BT, values, len(ids_BS))

    def _errors(
        self, model: nn.Module, ids_BS: Tensor, lengths_B: Tensor | None, targets_BT: Tensor
    ) -> dict[str, Tensor]:
        options = self._trainer.options
        guesses_BL, guess_lengths_B = write_greedily(
            model, ids_BS, lengths_B, ends=(options.start, options.end), most=options.most_output
        )
        wanted_B = (targets_BT != IGNORED).sum(1) - 1  # without the end token
        edits_B = edit_distance(guesses_BL, guess_lengths_B, targets_BT, wanted_B)
        return {
            "edits": edits_B.float().mean(),
            "wanted": wanted_B.float().mean(),
            "sequence_error": (edits_B > 0).float().mean(),
        }

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Perplexity a token; the share of symbols (phonemes, say) that would have to be mended."""
        found = {"perplexity": math.exp(min(means["epoch_loss"] / means.get("tokens", 1.0), 700.0))}
        if "edits" in means:
            found["error_rate"] = means["edits"] / max(means["wanted"], 1e-9)
        return found

    def watched_metric(self) -> tuple[str, str] | None:
        """The share of errors, where evaluations decode."""
        return ("eval_error_rate" if self._trainer.options.decodes else "eval_epoch_loss"), "min"


@torch.no_grad()
def write_greedily(
    model: nn.Module, ids_BS: Tensor, lengths_B: Tensor | None, *, ends: tuple[int, int], most: int
) -> tuple[Tensor, Tensor]:
    """The most probable token each time, (B, L), and how many there are before the end token (B,)."""
    net = model
    if not isinstance(net, Seq2Seq):
        raise TypeError(f"a Seq2Seq is needed, not a {type(model).__name__}")
    start, end = ends
    memory = net.remember(ids_BS, lengths_B)
    token_B1 = torch.full((len(ids_BS), 1), start, device=ids_BS.device)
    hidden, written = None, []
    has_ended_B = torch.zeros(len(ids_BS), dtype=torch.bool, device=ids_BS.device)
    for _ in range(most):
        logits_B1V, hidden = net.write(memory, token_B1, hidden)
        token_B1 = logits_B1V.argmax(2)
        has_ended_B = has_ended_B | (token_B1[:, 0] == end)
        written.append(torch.where(has_ended_B[:, None], end, token_B1))
        if bool(has_ended_B.all()):
            break
    out_BL = torch.cat(written, 1)
    return out_BL, (out_BL != end).sum(1)
