"""Real data sets with pinned bytes, loaders whose place can be kept, and augmentations."""

from workers.train.data.archives import DataDamaged, DataError, DataMissing
from workers.train.data.datasets import DatasetLoader, PairedLoader
from workers.train.data.images import IMAGE_SETS, ImageSet, load_images, unit_range
from workers.train.data.labelled import labelled_pictures, labelled_texts
from workers.train.data.labels import UNLABELLED, hide_labels
from workers.train.data.loaders import InMemoryLoader, Loader, LoadPlan, Ragged, RaggedLoader, ReplayLoader
from workers.train.data.texts import (
    TEXT_SETS,
    Corpus,
    PairSet,
    TaggedSet,
    TextSet,
    load_brown,
    load_phonemes,
    load_shakespeare,
    load_texts,
)

__all__ = [
    "IMAGE_SETS",
    "TEXT_SETS",
    "UNLABELLED",
    "Corpus",
    "DataDamaged",
    "DataError",
    "DataMissing",
    "DatasetLoader",
    "ImageSet",
    "InMemoryLoader",
    "LoadPlan",
    "Loader",
    "PairSet",
    "PairedLoader",
    "Ragged",
    "RaggedLoader",
    "ReplayLoader",
    "TaggedSet",
    "TextSet",
    "hide_labels",
    "labelled_pictures",
    "labelled_texts",
    "load_brown",
    "load_images",
    "load_phonemes",
    "load_shakespeare",
    "load_texts",
    "unit_range",
]
