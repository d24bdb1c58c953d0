"""How texts are cut into tokens: as asked, or as such texts are best cut."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from tokenizers import Tokenizer

from workers.train.data.vocabularies import byte_pair_tokenizer, character_tokenizer, word_tokenizer
from workers.train.run.order import Order
from workers.train.run.problems import CannotTrain

By = Literal["characters", "words", "byte_pairs"]
#: Mean characters of texts that are spelt, not read.
_SHORT = 40
#: Characters that a language model reads one by one.
_MOST_SPELT = 20_000_000
#: The special tokens and all bytes: there is no smaller vocabulary of byte pairs.
_LEAST_BYTE_PAIRS = 260


class Words(NamedTuple):
    """A tokenizer."""

    tokenizer: Tokenizer

    @property
    def by(self) -> By:
        """What its tokens are, by how they are put together again."""
        return _BY_DECODER.get(type(self.tokenizer.decoder).__name__, "words")

    @property
    def embedding_std(self) -> float:
        """As `SequenceConfig` says: where tokens are few, large embeddings are faster."""
        return 1.0 if self.by == "characters" else 0.1


_BY_DECODER: Mapping[str, By] = MappingProxyType({"Fuse": "characters", "ByteLevel": "byte_pairs"})


def ensure_texts(texts: Sequence[str]) -> None:
    """See that there is something to read.

    Raises:
        CannotTrain: all texts are empty.
    """
    if not any(text.strip() for text in texts):
        raise CannotTrain("there is not one word in the texts for training", "Add texts to the data set.")


def are_short(texts: Sequence[str]) -> bool:
    """Whether texts are single words, such as names."""
    return sum(map(len, texts)) <= _SHORT * len(texts)


def are_spelt(texts: Sequence[str]) -> bool:
    """Whether a language model of the texts reads characters."""
    return sum(map(len, texts)) <= _MOST_SPELT


def are_single_words(texts: Sequence[str]) -> bool:
    """Whether most texts hold no space within: each is a word that is to be spelt."""
    return 2 * sum(len(text.split()) > 1 for text in texts) <= len(texts)


def words_of(
    order: Order, texts: Sequence[str], *, tokens: str, size: int, spelt: Callable[[Sequence[str]], bool]
) -> Words:
    """The parent's words, those that are asked for, or with ``auto`` characters where ``spelt`` says so.

    Raises:
        CannotTrain: there is nothing to read.
    """
    ensure_texts(texts)
    known = order.tokenizer_of_parent()
    if known is not None:
        return Words(known)
    if tokens == "auto":
        tokens = "characters" if spelt(texts) else "words"
    return Words(_TOKENIZERS[tokens](texts, size))


def _byte_pairs(texts: Sequence[str], size: int) -> Tokenizer:
    if size < _LEAST_BYTE_PAIRS:
        raise CannotTrain(
            f"a vocabulary of {size} is too small for byte pairs",
            f"Say vocabulary_size {_LEAST_BYTE_PAIRS} or more.",
        )
    return byte_pair_tokenizer(texts, size)


_TOKENIZERS: Mapping[str, Callable[[Sequence[str], int], Tokenizer]] = MappingProxyType(
    {
        "characters": lambda texts, _: character_tokenizer(texts),
        "words": word_tokenizer,
        "byte_pairs": _byte_pairs,
    }
)
