"""What tests arrange with: where real data lies, and small made-up things of every room."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest


def peer_is_missing(reason: str) -> NoReturn:
    """A program of another maker is not here: in CI that is a failure, on a user's machine a skip with its reason."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def shared_data() -> Path:
    """The folder of real images; the test is skipped where it is missing."""
    folder = Path(os.environ.get("DICOMNODE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not here ({folder}); set DICOMNODE_SHARED_DATA to their folder")
    return folder


def fixtures_folder() -> Path:
    """The folder of real DICOM series; the test is skipped where it is missing."""
    return shared_data() / "fixtures"
