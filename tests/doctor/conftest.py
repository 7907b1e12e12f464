"""The tiny ViT whose register neurons are written in by hand, the same without them, and fourteen images."""

from pathlib import Path

import pytest

from helpers import by_hand


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``images``, ``models/planted`` and ``models/plain``."""
    root = tmp_path_factory.mktemp("doctor")
    by_hand.write_images(root, 0)
    for name in ("planted", "plain"):
        by_hand.write_model(root / "models" / name, name == "planted")
    return root
