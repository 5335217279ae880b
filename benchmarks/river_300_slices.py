"""A 300-slice 512x512 CT with metal through the whole river: wall time, CPU time and peak memory of each process.

    .venv/bin/python benchmarks/river_300_slices.py --slices 300

The series is made here: a pelvis-like phantom with two metal hips in part of its slices, streaks from the product's
own simulation. Orthanc is the PACS, DCMTK's storescu the scanner. Peak memory is the kernel's VmHWM.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.builders_dicom import write_ct_series
from tests.peers import Orthanc, RunningNode, storescu

TICKS = os.sysconf("SC_CLK_TCK")


def phantom(slices: int, size: int, metal_slices: int) -> np.ndarray:
    """HU (slices, rows, columns) int16: an ellipse with bones; metal with streaks in the middle slices."""
    from inference.physics.ct_simulation import simulate_metal_ct

    j, i = np.mgrid[0:size, 0:size]
    y, x = (j - size / 2) / size, (i - size / 2) / size
    clean = np.full((size, size), -1000, np.float32)
    clean[(x / 0.42) ** 2 + (y / 0.30) ** 2 < 1] = 40
    for side in (-0.2, 0.2):
        clean[((x - side) / 0.07) ** 2 + (y / 0.09) ** 2 < 1] = 700
    metal = np.zeros((1, size, size), bool)
    for side in (-0.2, 0.2):
        metal[0] |= ((x - side) / 0.03) ** 2 + (y / 0.03) ** 2 < 1
    streaked = simulate_metal_ct(clean[None], metal, metal="cobalt_chromium", spacing_mm=0.8, seed=1)[0]
    rng = np.random.default_rng(1)
    stack = np.empty((slices, size, size), np.int16)
    first = (slices - metal_slices) // 2
    for k in range(slices):
        base = streaked if first <= k < first + metal_slices else clean
        stack[k] = np.clip(base + rng.normal(0, 10, base.shape), -1024, 3071)
    return stack


def usage(process_id: int) -> tuple[float, float]:
    """CPU seconds and peak resident MiB of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{process_id}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / TICKS, int(peak.split()[1]) / 1024


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--metal-slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"making {options.slices} slices, {options.metal_slices} of them with metal ...", flush=True)
        files = write_ct_series(
            folder / "source",
            values=phantom(options.slices, options.size, options.metal_slices),
            SeriesDescription="Hip implant",
            spacing_mm=(1.0, 0.8, 0.8),
            ImagesInAcquisition=options.slices,
        )
        pacs = Orthanc(folder / "orthanc").start()
        node = RunningNode(folder / "node", pacs.dicom_port)
        begun = time.monotonic()
        node.start()
        ready_s = time.monotonic() - begun
        try:
            begun = time.monotonic()
            assert storescu(node.port, files).returncode == 0
            received_s = time.monotonic() - begun
            job = node.wait_for_jobs({"delivered"}, count=1, seconds=3600)[0]
            total_s = time.monotonic() - begun
            assert len(pacs.series()[job["derived_series_instance_uid"]]["instances"]) == options.slices
            events = {row["event"]: row["at"] for row in node.audit(job["series_instance_uid"])}
            print(f"node ready after {ready_s:.2f} s")
            print(f"received {received_s:.1f} s after the first C-STORE, delivered {total_s:.1f} s after it")
            print("  ".join(f"{event}: {at[11:19]}" for event, at in events.items()))
            print(f"{'process':8} {'CPU s':>8} {'CPU s/slice':>12} {'peak MiB':>9}")
            for role, process_id in node.processes().items():
                cpu_s, peak_mib = usage(process_id)
                print(f"{role:8} {cpu_s:8.1f} {cpu_s / options.slices:12.3f} {peak_mib:9.0f}")
        finally:
            node.stop()
            pacs.stop()


if __name__ == "__main__":
    main()
