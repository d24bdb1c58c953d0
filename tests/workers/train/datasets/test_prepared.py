"""What training gets out of a prepared data set."""

import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.workers.train.datasets.making import digit_files, digits, look, png, table, zipped
from workers.nets.contracts import ImageInput
from workers.train.datasets import (
    PreparedDamaged,
    SampleSource,
    TooLarge,
    WrongKind,
    open_prepared,
    validate,
)


def test_pictures_are_resized_as_serving_does_it(tmp_path: Path) -> None:
    """The same pixels in training and in serving, grey or in three channels."""
    look(tmp_path, "a.zip", zipped(digit_files(20)))
    data = open_prepared(tmp_path / "prepared")

    for channels in (1, 3):
        contract = ImageInput(side=28, channels=channels)  # type: ignore[arg-type]
        served = contract.pixels([Image.fromarray(pixels) for pixels in digits()[0][:20]])
        trained = torch.cat([data.images(split, side=28, channels=channels) for split in ("train", "test")])  # type: ignore[arg-type]
        assert sorted(served.flatten(1).tolist()) == sorted(trained.flatten(1).tolist())


def test_a_second_process_has_the_digits_at_once(tmp_path: Path) -> None:
    """Resized pictures are kept beside the data."""
    validate(SampleSource(name="digits"), tmp_path / "made")
    first = open_prepared(tmp_path / "made").images("train", side=28, channels=1)

    began = time.perf_counter()
    data = open_prepared(tmp_path / "made")
    again, labels = data.images("train", side=28, channels=1), data.labels("train")
    took_s = time.perf_counter() - began

    assert torch.equal(first, again)
    assert (1437, 1, 28, 28) == tuple(again.shape)
    assert 1437 == len(labels)
    assert took_s < 0.05


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    """A process that died while it wrote does no harm to the next."""
    look(tmp_path, "a.zip", zipped(digit_files(20)))
    data = open_prepared(tmp_path / "prepared")
    whole = data.images("train", side=8, channels=1)
    (tmp_path / "prepared" / "pixels-8-1.safetensors").write_bytes(b"half")

    assert torch.equal(whole, data.images("train", side=8, channels=1))


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """With what it would take, and what to do."""
    look(tmp_path, "a.zip", zipped({f"a/{at}.png": png(digits()[0][at]) for at in range(20)}))
    data = open_prepared(tmp_path / "prepared", limit_bytes=1 << 20)

    with pytest.raises(TooLarge, match=r"pictures of 512 x 512 take .* GiB in memory, over the limit"):
        data.images("train", side=512, channels=3)
    assert data.facts.splits["train"] == len(data.images("train", side=8, channels=1))


def test_another_kind_than_it_has_is_refused(tmp_path: Path) -> None:
    """Texts are no pictures."""
    look(tmp_path, "a.csv", table("text,label", *(f"text {at},a" for at in range(9))))
    data = open_prepared(tmp_path / "prepared")

    for ask in (data.numbers, data.pairs, data.tagged, lambda split: data.images(split, side=8, channels=1)):
        with pytest.raises(WrongKind):
            ask("train")


def test_a_folder_without_a_data_set_is_told(tmp_path: Path) -> None:
    """Or with half of one."""
    with pytest.raises(PreparedDamaged):
        open_prepared(tmp_path)
    look(tmp_path, "a.csv", table("text,label", *(f"text {at},a" for at in range(9))))
    (tmp_path / "prepared" / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(PreparedDamaged):
        open_prepared(tmp_path / "prepared")
