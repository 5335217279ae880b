"""Rows of figures as markdown tables for benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.mar.figures import FAR_PIXELS
from benchmarks.mar.measure import Row
from benchmarks.mar.scenes import LARGE_FROM_MM2, SMALL_BELOW_MM2
from benchmarks.mar.speed import Cost

WORSE_DB = -0.2
TITLES = {
    "a": "(a) published 416x416 setting, on the measured sinogram with the true trace",
    "b": "(b) image-only, 12 bit, scanner drawn for each kind of metal",
    "c": "(c) image-only, 12 bit, the second scanner",
}
KEPT_WITHIN = 0.2
SUMMARY = (
    *(
        "method",
        "gate",
        "PSNR dB",
        "gain dB",
        "in the body",
        "SSIM",
        "RMSE HU",
        "far change HU",
        "far bias HU",
        "shell HU",
    ),
    *("lesion at 2 mm", "at 15 mm", "streaks HU", "worse", "unchanged", "metal exact"),
)
Values = NDArray[np.float64]
_Key = TypeVar("_Key")


def tables_of(rows: Sequence[Row], costs: Sequence[Cost]) -> str:
    """All tables of what was measured."""
    parts = []
    for protocol in sorted({row.protocol for row in rows}):
        chosen = [row for row in rows if row.protocol == protocol]
        subjects = ", ".join(sorted({row.subject for row in chosen}))
        scenes = len({row.scene for row in chosen})
        parts += [
            f"### {TITLES[protocol]}: {scenes} scenes of {subjects}",
            summary(chosen),
            by(chosen, "metal", lambda row: row.kind),
            by(chosen, "size of metal", lambda row: row.size),
        ]
    parts.append(
        "Gains are over the input, mean / lowest over the scenes: by PSNR of the whole slice, the air round the body "
        "included, and by root mean square error in HU in the body. Off: the rung alone; on: what the pipeline sends. "
        f"Metal is small below {SMALL_BELOW_MM2:.0f} mm2 in the slice and large from {LARGE_FROM_MM2:.0f}. "
        f"Far: |median| over the body further than {FAR_PIXELS} pixels from metal, of the change and of the error, "
        "mean / largest. Shell: bias 1 to 5 mm from the metal, mean of the bias and of its size; below nought is false "
        "loosening. Lesion: contrast kept of a 20 HU disc of 5 mm radius that far from the metal, median and the share "
        "of the scenes within 20 %. Streaks: root mean square error in soft tissue within 100 pixels of metal."
    )
    if costs:
        parts.append(cost_table(costs))
    return "\n\n".join(parts) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """One line a method and gate, over all scenes."""
    lines: list[Sequence[str]] = []
    for (method, gate), chosen in _groups(rows, lambda row: (row.method, row.gate)).items():
        gains, far, shell = (_values(chosen, name) for name in ("gain_db", "far_change_hu", "shell_bias_hu"))
        bias, inner = np.abs(_values(chosen, "far_bias_hu")), _values(chosen, "body_gain_db")
        made = gate != ""
        lines.append(
            (
                f"`{method}`" if made else method,
                gate,
                f"{_mean(_values(chosen, 'psnr_db')):.2f}",
                f"{_mean(gains):+.2f} / {_lowest(gains):+.2f}" if method != "input" else "",
                f"{_mean(inner):+.2f} / {_lowest(inner):+.2f}" if method != "input" else "",
                f"{_mean(_values(chosen, 'ssim')):.3f}",
                f"{_mean(_values(chosen, 'rmse_hu')):.1f}",
                f"{_mean(np.abs(far)):.1f} / {_largest(np.abs(far)):.1f}" if made else "",
                f"{_mean(bias):.1f} / {_largest(bias):.1f}",
                f"{_mean(shell):+.0f}, {_mean(np.abs(shell)):.0f}",
                _contrast(chosen, "contrast_2_mm"),
                _contrast(chosen, "contrast_15_mm"),
                f"{_mean(_values(chosen, 'streak_hu')):.1f}",
                str(int((gains < WORSE_DB).sum())) if made else "",
                str(sum(row.unchanged for row in chosen)) if made else "",
                ("yes" if all(row.exact for row in chosen) else "NO") if gate == "on" else "",
            )
        )
    return _markdown(SUMMARY, lines)


def by(rows: Sequence[Row], title: str, select: Callable[[Row], str]) -> str:
    """Gains by kind or by size: one line for each, one column for each method and gate."""
    methods = [key for key in _groups(rows, lambda row: (row.method, row.gate)) if key[0] != "input"]
    lines = []
    for name, chosen in _groups(rows, select).items():
        inputs = [row for row in chosen if row.method == "input"]
        cells = [name, str(len(inputs)), f"{_mean(_values(inputs, 'psnr_db')):.1f}"]
        for method, gate in methods:
            gains = _values([row for row in chosen if (row.method, row.gate) == (method, gate)], "gain_db")
            cells.append(f"{_mean(gains):+.2f} / {_lowest(gains):+.2f}")
        lines.append(tuple(cells))
    heads = [f"{method} {gate}".strip() for method, gate in methods]
    return _markdown((title, "scenes", "input dB", *heads), lines)


def cost_table(costs: Sequence[Cost]) -> str:
    """CPU and memory of the methods."""
    lines = [(f"`{cost.method}`", f"{cost.cpu_s:.2f}", f"{cost.peak_mib:.0f}") for cost in costs]
    return _markdown(("pipeline, 16 slices of 512x512 with metal", "CPU-s a slice", "peak MiB"), lines)


def _groups(rows: Iterable[Row], key: Callable[[Row], _Key]) -> dict[_Key, list[Row]]:
    groups: dict[_Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _values(rows: Iterable[Row], name: str) -> Values:
    return np.array([row.figures[name] for row in rows], np.float64)


def _given(values: Values, reduced: Callable[[Values], np.floating]) -> float:
    """Of the scenes that have the figure; NaN where none has."""
    known = values[np.isfinite(values)]
    return float(reduced(known)) if len(known) else float("nan")


def _mean(values: Values) -> float:
    return _given(values, np.mean)


def _median(values: Values) -> float:
    return _given(values, np.median)


def _lowest(values: Values) -> float:
    return _given(values, np.min)


def _largest(values: Values) -> float:
    return _given(values, np.max)


def _contrast(rows: Iterable[Row], name: str) -> str:
    kept = _values(rows, name)
    return f"{_median(kept):.2f}, {_within(kept):.0%}" if np.isfinite(kept).any() else "-"


def _within(kept: Values) -> float:
    """Share of the lesions whose contrast is within KEPT_WITHIN of the true one."""
    return _given(kept, lambda known: np.mean(np.abs(known - 1) <= KEPT_WITHIN))


def _markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
