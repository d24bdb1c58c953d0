"""Event files are what TensorBoard reads: checked byte by byte against the format."""

import struct
from pathlib import Path
from typing import Any

from tests.workers.train.scenarios import net, points, quiet
from workers.train.base import BaseTrainer
from workers.train.base.tensorboard import EventWriter, crc32c, masked_crc
from workers.train.pictures import grid_png


def fields(content: bytes) -> dict[int, list[Any]]:
    """The fields of one protobuf message, by number."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = content[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(content):
        key = varint()
        value: Any
        if key & 7 == 0:
            value = varint()
        elif key & 7 == 2:
            length = varint()
            value, at = content[at : at + length], at + length
        else:
            size, form = (8, "<d") if key & 7 == 1 else (4, "<f")
            value, at = struct.unpack(form, content[at : at + size])[0], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def events(folder: Path) -> list[dict[int, list[Any]]]:
    """The events of the one file in a folder; every checksum is checked."""
    (path,) = folder.iterdir()
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        assert masked_crc(content[at : at + 8]) == struct.unpack("<I", content[at + 8 : at + 12])[0]
        event = content[at + 12 : at + 12 + length]
        assert masked_crc(event) == struct.unpack("<I", content[at + 12 + length : at + 16 + length])[0]
        found.append(fields(event))
        at += 16 + length
    return found


def scalars(event: dict[int, list[Any]]) -> dict[str, float]:
    values = [fields(value) for summary in event.get(5, []) for value in fields(summary)[1]]
    return {value[1][0].decode(): value[2][0] for value in values if 2 in value}


def test_the_checksum_is_castagnolis() -> None:
    assert 0xE3069283 == crc32c(b"123456789")
    assert 0x8A9136AA == crc32c(bytes(32))


def test_scalars_and_pictures_come_back(tmp_path: Path) -> None:
    import torch  # noqa: PLC0415

    writer = EventWriter(tmp_path)
    writer.scalars(300, {"loss": 0.5, "lr": -2.0})
    writer.picture(7, "grid", grid_png(torch.rand(4, 1, 6, 6), columns=2, scale=1))
    writer.close()

    first, second, third = events(tmp_path)

    assert [b"brain.Event:2"] == first[3]
    assert ([300], {"loss": 0.5, "lr": -2.0}) == (second[2], scalars(second))
    image = fields(fields(fields(third[5][0])[1][0])[4][0])
    assert ([16], [16]) == (image[1], image[2])
    assert image[4][0].startswith(b"\x89PNG")


def test_a_run_leaves_its_curves(tmp_path: Path) -> None:
    configs = quiet(tmp_path, tensorboard={"log_dir": str(tmp_path / "board"), "comment": "-one"})

    BaseTrainer(net(), configs, points(), points(48)).train()

    found = [(event[2][0], scalars(event)) for event in events(tmp_path / "board-one") if 5 in event]
    names = {name for _, values in found for name in values}
    assert {"step_loss", "epoch_loss", "epoch_metric", "lr", "eval_epoch_loss"} <= names
    assert 40 == max(step for step, _ in found)
