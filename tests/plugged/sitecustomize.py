"""Makes the pipelines beside this file known to every process that is started with this folder in PYTHONPATH."""

from __future__ import annotations

from pathlib import Path

import inference.pipelines

inference.pipelines.__path__.append(str(Path(__file__).parent / "pipelines"))
