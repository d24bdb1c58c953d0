"""Options of RNNTrainer."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from workers.nets.validation import Problem
from workers.train.configs.autoencoder import NotNegative
from workers.train.configs.base import Natural, Positive, Rate, Share, TrainerOptions

RNNTask = Literal["language_model", "classifier", "tagger", "seq2seq"]
_MODEL, _SEQ2SEQ = frozenset({"language_model"}), frozenset({"seq2seq"})
_WORDS = frozenset({"classifier", "tagger", "seq2seq"})
#: Where an option has a meaning; the others have one everywhere.
_MEANT_FOR: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "sequence_length": _MODEL,
        "carries_state": _MODEL,
        "activation_penalty": _MODEL,
        "temporal_penalty": _MODEL,
        "num_samples": _MODEL,
        "sample_length": _MODEL,
        "prompt": _MODEL,
        "temperature": _MODEL,
        "top_p": _MODEL,
        "word_dropout": _WORDS,
        "most_output": _SEQ2SEQ,
        "decodes": _SEQ2SEQ,
    }
)


class RNNOptions(TrainerOptions, frozen=True):
    """What to learn.

    Attributes:
        task: language_model (data: one stream of tokens (N,), or rows under ``ids``), classifier (``ids`` and
            ``label``, or pictures and labels), tagger (``ids`` and ``labels``, as long as each other) or
            seq2seq (``ids`` and ``target``, which begins and ends with the start and end tokens).
        sequence_length: tokens through which a stream's gradient runs back (truncated BPTT).
        carries_state: the hidden state at the end of a batch of a stream is where the next one begins.
        activation_penalty, temporal_penalty: AWD-LSTM's alpha and beta.
        label_smoothing: share of the target that is spread over all classes in training.
        word_dropout: share of the tokens that become ``unknown`` in training; each row's first one stays.
        num_samples, sample_length, prompt: texts that each evaluation writes and reports.
        temperature, top_p: how they are drawn: from logits divided by the one, out of the fewest tokens that
            have this share of the probability (Holtzman et al., 2020).
        decodes: evaluations write each target greedily and count its errors, at most ``most_output`` tokens.
        unknown, start, end: numbers of special tokens.
        most_input: tokens that an exported encoder of texts looks at.
    """

    task: RNNTask = "language_model"
    sequence_length: Positive = 64
    carries_state: bool = True
    activation_penalty: NotNegative = 0.0
    temporal_penalty: NotNegative = 0.0
    label_smoothing: Share = 0.0
    word_dropout: Share = 0.0
    num_samples: Annotated[int, Meta(ge=0, le=64)] = 0
    sample_length: Positive = 200
    prompt: str = ""
    temperature: Rate = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    decodes: bool = True
    most_output: Positive = 50
    unknown: Natural = 1
    start: Natural = 2
    end: Natural = 3
    most_input: Positive = 1024

    def problems(self) -> Iterator[Problem]:
        """What has no meaning for the task."""
        defaults = {field.name: field.default for field in msgspec.structs.fields(type(self))}
        for name, tasks in _MEANT_FOR.items():
            if self.task not in tasks and getattr(self, name) != defaults[name]:
                yield Problem((name,), f"has no meaning for a {self.task}")
        if len({0, self.unknown, self.start, self.end}) < 4:  # noqa: PLR2004  padding and three more
            yield Problem(("unknown",), "unknown, start and end are three numbers, and 0 is padding")
