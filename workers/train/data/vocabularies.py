"""Tokenizers made from texts: of characters, words or byte pairs. The same texts give the same numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from workers.train.data.loaders import Ragged

#: The first tokens of every vocabulary here, in this order.
SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
PADDING, UNKNOWN, START, END = range(len(SPECIALS))
_PIECE_CHARACTERS = 20_000


def character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Every character of the texts, most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    tokenizer = Tokenizer(models.WordLevel(_numbered(counts, len(counts)), unk_token=SPECIALS[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def word_tokenizer(
    texts: Iterable[str], size: int, *, lower: bool = True, punctuation: bool = True, least: int = 1
) -> Tokenizer:
    """The most frequent words, at most ``size`` with the special ones, each seen at least ``least`` times.

    ``punctuation`` parts it from words; without, words are what stands between spaces.
    """
    tokenizer = Tokenizer(models.WordLevel({}, unk_token=SPECIALS[UNKNOWN]))
    tokenizer.normalizer = normalizers.Lowercase() if lower else normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace() if punctuation else pre_tokenizers.WhitespaceSplit()
    counts: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    kept = Counter({word: count for word, count in counts.items() if count >= least})
    tokenizer.model = models.WordLevel(_numbered(kept, size - len(SPECIALS)), unk_token=SPECIALS[UNKNOWN])
    return tokenizer


def byte_pair_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Byte pairs (Sennrich et al., 2016) over bytes: nothing is ever unknown, and decoding gives the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _numbered(counts: Counter[str], most: int) -> dict[str, int]:
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate([*SPECIALS, *ranked[:most]])}


def encode_stream(tokenizer: Tokenizer, text: str) -> Tensor:
    """The tokens (N,) int64 of one long text, which is cut at ends of lines and encoded piece by piece."""
    ids = [
        torch.tensor(tokenizer.encode(piece, add_special_tokens=False).ids, dtype=torch.long)
        for piece in _pieces(text)
    ]
    return torch.cat(ids) if ids else torch.empty(0, dtype=torch.long)


def _pieces(text: str) -> Iterator[str]:
    first = 0
    while first < len(text):
        last = text.find("\n", first + _PIECE_CHARACTERS) + 1 or len(text)
        yield text[first:last]
        first = last


def encode_rows(
    tokenizer: Tokenizer, texts: Sequence[str], *, most: int | None = None, ends: bool = False
) -> Ragged:
    """One row a text, of at most ``most`` tokens; ``ends`` puts the start and end tokens around it.

    A text without a token is one unknown token.
    """
    rows = (encoding.ids[:most] or [UNKNOWN] for encoding in tokenizer.encode_batch(list(texts)))
    return Ragged.of([[START, *row, END] if ends else row for row in rows])


def characters_of(tokenizer: Tokenizer) -> Tensor | None:
    """How many characters each token stands for (V,), None when decoding doesn't give the text back.

    Bytes are counted, which are characters in ASCII. Special tokens stand for none.
    """
    kind = type(tokenizer.decoder).__name__
    if kind not in {"Fuse", "ByteLevel"}:
        return None
    tokens = [tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size())]
    return torch.tensor([0 if number < len(SPECIALS) else len(token) for number, token in enumerate(tokens)])
