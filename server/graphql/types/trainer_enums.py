"""Choices that a trainer leaves; their values are those of the parameters' structs."""

from enum import StrEnum

from server.graphql.types.enums import describe


class LearningRateSchedule(StrEnum):
    """How the learning rate goes on after the warm-up."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class GanLoss(StrEnum):
    """What generator and discriminator try to make small."""

    NON_SATURATING = "non_saturating"
    LEAST_SQUARES = "least_squares"
    HINGE = "hinge"
    WASSERSTEIN_GP = "wasserstein_gp"


class AutoencoderKind(StrEnum):
    """What the code between encoder and decoder is like."""

    PLAIN = "plain"
    DENOISING = "denoising"
    VAE = "vae"
    BETA_VAE = "beta_vae"
    VQ_VAE = "vq_vae"


class AutoencoderNet(StrEnum):
    """Layers of encoder and decoder."""

    AUTO = "auto"
    MLP = "mlp"


class RnnTask(StrEnum):
    """What is learned."""

    AUTO = "auto"
    LANGUAGE_MODEL = "language_model"
    CLASSIFIER = "classifier"
    TAGGER = "tagger"
    SEQ2SEQ = "seq2seq"


class RnnCell(StrEnum):
    """The recurrent cell."""

    LSTM = "lstm"
    GRU = "gru"


class RnnTokens(StrEnum):
    """What a text is cut into."""

    AUTO = "auto"
    CHARACTERS = "characters"
    WORDS = "words"
    BYTE_PAIRS = "byte_pairs"


class SemiSupervisedMethod(StrEnum):
    """How rows without a label are learned from."""

    FIXMATCH = "fixmatch"
    MEAN_TEACHER = "mean_teacher"
    PSEUDO_LABEL = "pseudo_label"
    GAN = "gan"


class FineTuneBase(StrEnum):
    """A hosted model."""

    AUTO = "auto"
    EFFICIENTNET_LITE0 = "efficientnet_lite0"
    MINILM = "minilm"


class FineTuneMethod(StrEnum):
    """What learns."""

    FULL = "full"
    PROBE = "probe"


describe(
    LearningRateSchedule,
    "How the learning rate goes on after the warm-up.",
    {
        "CONSTANT": "It stays.",
        "LINEAR": "It falls to 0 on a straight line.",
        "COSINE": "It falls to 0 on half a cosine.",
    },
)
describe(
    GanLoss,
    "What generator and discriminator try to make small.",
    {
        "NON_SATURATING": "Cross-entropy; the generator maximises the chance of passing for real.",
        "LEAST_SQUARES": "Squared distance from the labels.",
        "HINGE": "Hinge loss.",
        "WASSERSTEIN_GP": "Wasserstein distance, with a penalty on the discriminator's gradients.",
    },
)
describe(
    AutoencoderKind,
    "What the code between encoder and decoder is like.",
    {
        "PLAIN": "Short, and nothing else.",
        "DENOISING": "That of a clean row, found from a noisy one.",
        "VAE": "A draw from a distribution close to a normal one.",
        "BETA_VAE": "The same, where `beta` says how close.",
        "VQ_VAE": "Entries of a code book.",
    },
)
describe(
    AutoencoderNet,
    "Layers of encoder and decoder.",
    {
        "AUTO": "Convolutional for pictures, fully connected for the rest.",
        "MLP": "Fully connected for all.",
    },
)
describe(
    RnnTask,
    "What is learned.",
    {
        "AUTO": "What the data shows: classes, tags, targets, or else the text itself.",
        "LANGUAGE_MODEL": "The next token.",
        "CLASSIFIER": "The class of a text.",
        "TAGGER": "The tag of each word.",
        "SEQ2SEQ": "The text that a text becomes.",
    },
)
describe(
    RnnCell,
    "The recurrent cell.",
    {"LSTM": "Long short-term memory.", "GRU": "Gated recurrent unit."},
)
describe(
    RnnTokens,
    "What a text is cut into.",
    {
        "AUTO": "What suits the task.",
        "CHARACTERS": "Characters.",
        "WORDS": "Words.",
        "BYTE_PAIRS": "Frequent parts of words, found in the data.",
    },
)
describe(
    SemiSupervisedMethod,
    "How rows without a label are learned from.",
    {
        "FIXMATCH": "A strongly changed row must get the class that the weakly changed one surely has.",
        "MEAN_TEACHER": "The classifier must agree with its own average.",
        "PSEUDO_LABEL": "Sure answers count as labels.",
        "GAN": "A discriminator that also tells classes apart.",
    },
)
describe(
    FineTuneBase,
    "The hosted model that goes on learning.",
    {
        "AUTO": "The one for what the rows are.",
        "EFFICIENTNET_LITE0": "EfficientNet-Lite0, for pictures.",
        "MINILM": "all-MiniLM-L6-v2, for texts.",
    },
)
describe(
    FineTuneMethod,
    "What learns.",
    {"FULL": "Everything.", "PROBE": "The new classifier alone."},
)
