"""How much room a disk has; without a database, so that a receiving process can ask it."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """How much room the disk of the folder has, for a process without privileges."""
    return shutil.disk_usage(folder).free
