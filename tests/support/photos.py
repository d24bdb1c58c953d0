"""Photos by what they show, out of the development packages that bring them; none is in the repository."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """A lion, a cheetah, a tower, a rocket and a cup of coffee."""
    gradio = _folder_of("gradio") / "media_assets" / "images"
    skimage = _folder_of("skimage") / "data"
    return {
        "lion": gradio / "lion.jpg",
        "cheetah": gradio / "cheetah.jpg",
        "tower": gradio / "tower.jpg",
        "rocket": skimage / "rocket.jpg",
        "coffee": skimage / "coffee.png",
    }


def _folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
