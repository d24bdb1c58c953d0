"""What a training is told: typed, bounded, with a default for everything, and checked before it is queued.

These structs are the contract between the server, which checks them, and the train worker, which turns them
into the options of a trainer. Ranges are in the types; ``contradictions`` finds what has no meaning together.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

Rate = Annotated[float, Meta(gt=0, le=10)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Epochs = Annotated[int, Meta(ge=1, le=10_000)]
BatchSize = Annotated[int, Meta(ge=2, le=4096)]
Steps = Annotated[int, Meta(ge=1, le=10_000_000)]
Natural = Annotated[int, Meta(ge=0, le=1_000_000)]
Width = Annotated[int, Meta(ge=4, le=512)]
Dimension = Annotated[int, Meta(ge=2, le=2048)]
Hidden = Annotated[int, Meta(ge=8, le=2048)]
Vocabulary = Annotated[int, Meta(ge=32, le=100_000)]
Length = Annotated[int, Meta(ge=2, le=4096)]

#: A field, outermost first, and what is wrong with it.
Contradiction = tuple[tuple[str, ...], str]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, tag_field="trainer"):
    """What every trainer can be told. A step is one update of the (main) network."""

    #: Passes over the data, where no number of steps is given.
    epochs: Epochs = 10
    batch_size: BatchSize = 64
    learning_rate: Rate = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: Natural = 0
    #: Greatest norm of a network's gradients; None leaves them as they are.
    grad_clip: Rate | None = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Give what has no meaning together, with the field's path."""
        yield from ()


class GanParameters(Parameters, frozen=True, kw_only=True, tag="GAN"):
    """A generator and a discriminator, for pictures."""

    loss: Literal["non_saturating", "least_squares", "hinge", "wasserstein_gp"] = "non_saturating"
    #: Side of the pictures in pixels; None takes the smallest of the three that holds the data's.
    image_size: Literal[28, 32, 64] | None = None
    width: Width = 32
    latent_dim: Dimension = 64
    #: The generator is asked for a class.
    conditional: bool = False
    n_critic: Annotated[int, Meta(ge=1, le=20)] = 1
    r1: Weight = 0.0
    diff_augment: bool = False
    #: None: the same as ``learning_rate``.
    discriminator_learning_rate: Rate | None = None
    ema_decay: Share = 0.995

    def contradictions(self) -> Iterator[Contradiction]:
        """Two penalties at once."""
        if self.r1 and self.loss == "wasserstein_gp":
            yield ("r1",), "is another penalty than that of wasserstein_gp: choose one"


class AutoencoderParameters(Parameters, frozen=True, kw_only=True, tag="AUTOENCODER"):
    """An encoder and a decoder, for pictures, texts as bags of words, and rows of numbers."""

    kind: Literal["plain", "denoising", "vae", "beta_vae", "vq_vae"] = "plain"
    latent_dim: Dimension = 32
    #: Convolutional for pictures, fully connected for the rest; or fully connected for all.
    net: Literal["auto", "mlp"] = "auto"
    beta: Weight = 1.0
    kl_warmup_steps: Natural = 0
    noise_level: Weight = 0.3
    num_codes: Annotated[int, Meta(ge=2, le=8192)] = 128
    #: Words that texts are counted by.
    vocabulary_size: Vocabulary = 2000

    def contradictions(self) -> Iterator[Contradiction]:
        """What only some kinds have."""
        variational = {"vae", "beta_vae"}
        if self.kind == "vae" and self.beta != 1:
            yield ("beta",), "is 1 for a vae; say beta_vae"
        if self.kind not in variational and self.beta != 1:
            yield ("beta",), f"has no meaning for {self.kind}"
        if self.kind not in variational and self.kl_warmup_steps:
            yield ("kl_warmup_steps",), f"has no meaning for {self.kind}"


class RnnParameters(Parameters, frozen=True, kw_only=True, tag="RNN"):
    """LSTM or GRU: a language model, a classifier, a tagger, or from sequence to sequence."""

    epochs: Epochs = 5
    batch_size: BatchSize = 32
    learning_rate: Rate = 3e-3
    grad_clip: Rate | None = 1.0
    #: Auto: a classifier where rows have labels, a tagger or seq2seq where they have tags or targets.
    task: Literal["auto", "language_model", "classifier", "tagger", "seq2seq"] = "auto"
    cell: Literal["lstm", "gru"] = "lstm"
    hidden: Hidden = 128
    num_layers: Annotated[int, Meta(ge=1, le=8)] = 1
    embedding_dim: Hidden = 64
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    tokens: Literal["auto", "characters", "words", "byte_pairs"] = "auto"
    vocabulary_size: Vocabulary = 5000
    #: Tokens through which a gradient runs back.
    sequence_length: Length = 64
    #: Text that a language model writes at each evaluation.
    sample_length: Length = 200
    prompt: Annotated[str, Meta(max_length=1000)] = ""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 0.8
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.9


class SemiSupervisedParameters(Parameters, frozen=True, kw_only=True, tag="SEMI_SUPERVISED"):
    """A classifier that also learns from rows without a label, for pictures and texts."""

    batch_size: BatchSize = 20
    learning_rate: Rate = 5e-3
    method: Literal["fixmatch", "mean_teacher", "pseudo_label", "gan"] = "fixmatch"
    #: Keeps so many labels a class and hides the others; None keeps all there are.
    labels_per_class: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    unlabelled_ratio: Annotated[int, Meta(ge=1, le=32)] = 7
    threshold: Share = 0.95
    lambda_u: Weight = 1.0
    ema_decay: Share = 0.99
    width: Width = 32


class FineTuneParameters(Parameters, frozen=True, kw_only=True, tag="FINE_TUNE"):
    """A hosted pipeline's model learns new classes, of pictures or of texts."""

    epochs: Epochs = 3
    batch_size: BatchSize = 32
    base: Literal["auto", "efficientnet_lite0", "minilm"] = "auto"
    #: A probe trains the new classifier alone.
    method: Literal["full", "probe"] = "full"
    #: Stages from the bottom that learn nothing.
    frozen_stages: Annotated[int, Meta(ge=0, le=32)] = 0
    #: Share of the learning rate that each stage gets of the one above.
    rate_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    image_size: Annotated[int, Meta(ge=32, le=320)] = 96
    #: Tokens of a text that are looked at.
    max_length: Annotated[int, Meta(ge=8, le=256)] = 64

    def contradictions(self) -> Iterator[Contradiction]:
        """What a probe leaves no room for."""
        if self.method == "probe" and self.frozen_stages:
            yield ("frozen_stages",), "has no meaning for a probe, where the encoder learns nothing"
        if self.method == "probe" and self.rate_decay != 1:
            yield ("rate_decay",), "has no meaning for a probe, where the encoder learns nothing"


TrainerParameters = (
    GanParameters | AutoencoderParameters | RnnParameters | SemiSupervisedParameters | FineTuneParameters
)


class TrainingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One training, complete: the same spec on the same data gives the same model, bit for bit."""

    MAX_SECONDS: ClassVar[int] = 7 * 24 * 3600

    name: str
    parameters: TrainerParameters
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    #: Steps in all, those before a resume included; wins over the epochs.
    max_steps: Steps | None = None
    #: Seconds of training of one attempt after which it ends as if its steps were done.
    max_seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)] | None = None
