"""Fixtures: an object store in a temporary folder."""

from pathlib import Path

import pytest

from bus.objects import ObjectStore


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    """An empty object store."""
    return ObjectStore.open((tmp_path / "objects").as_uri())
