"""What the pipeline costs on a series of 16 slices, in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

SLICES = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """cpu_s: user and system seconds a slice of all threads, tables made before; peak_mib: of the whole process."""

    method: str
    cpu_s: float
    peak_mib: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def cost_of(method: str, slices_hu: NDArray[np.float32], *, spacing_mm: float, threads: int) -> Cost:
    """The cost of a method by which a series of these slices, repeated up to 16, goes through the pipeline."""
    series = slices_hu[np.arange(SLICES) % len(slices_hu)]
    # a fresh process: this one holds the scenes and the simulators' tables
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (method, series, spacing_mm, threads))


def _measured(method: str, slices_hu: NDArray[np.float32], spacing_mm: float, threads: int) -> Cost:
    import torch

    from benchmarks.mar.methods import series, settings_of
    from inference.errors import SourceRefused
    from inference.pipeline import build_pipeline, run_pipeline
    from inference.pipelines.ct_metal_artifact_reduction import NAME

    torch.set_num_threads(threads)
    pipeline = build_pipeline(NAME, settings_of(method))

    def run(slices: NDArray[np.float32]) -> None:
        try:
            run_pipeline(pipeline, series(slices, spacing_mm))
        except SourceRefused as refusal:  # without gain the work is the same
            if refusal.reason_code != "no-gain":
                raise

    run(slices_hu[:2])
    begun = time.process_time()
    run(slices_hu)
    cpu_s = (time.process_time() - begun) / len(slices_hu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return Cost(method, cpu_s, peak)
