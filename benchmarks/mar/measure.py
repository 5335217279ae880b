"""Measures scenes: one row of figures for each scene and method, with the pictures for whoever shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.mar.figures import figures_of, zones_of
from benchmarks.mar.methods import found_metal, gated, ungated
from benchmarks.mar.published import PublishedScenes, change_of
from benchmarks.mar.scenes import Scene

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one result. method: a rung, "input", or "metal-free" for a scan of the same slice without metal.

    gate: as the rung leaves it ("off"), as the pipeline sends it ("on"), or "" for what no rung made.
    """

    protocol: str
    subject: str
    scene: int
    kind: str
    size: str
    metal_mm2: float
    method: str
    gate: str
    unchanged: bool
    exact: bool
    refusal: str
    figures: dict[str, float]

    def as_json(self) -> dict[str, object]:
        """With null for what the scene has no place for."""
        figures = {name: value if np.isfinite(value) else None for name, value in self.figures.items()}
        return {**asdict(self), "figures": figures}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A scene, its rows, and by (method, gate) the slices that they are from."""

    scene: Scene
    rows: list[Row]
    images: dict[tuple[str, str], Image]


def judged_image_only(scene: Scene, methods: tuple[str, ...], *, protocol: str, subject: str, number: int) -> Judged:
    """A scene of protocol b or c, each rung with and without the gate."""
    found = found_metal(scene)
    judged = Judged(scene, [], {})
    zones = zones_of(scene, found[0])

    def add(method: str, gate: str, pair: Image, unchanged: tuple[bool, bool], exact: bool, refusal: str = "") -> None:
        # where the gate lets only one of the two through, their difference is the artifact's and not the lesion's
        lesion = pair[1] if scene.lesions.any() and unchanged[0] == unchanged[1] else None
        figures = figures_of(pair[0], lesion, scene, zones)
        facts = (protocol, subject, number, scene.kind, scene.size, scene.metal_mm2)
        judged.rows.append(Row(*facts, method, gate, unchanged[0], exact, refusal, figures))
        judged.images[method, gate] = pair[0]

    add("input", "", np.stack([scene.spoiled, scene.with_lesions]), (True, True), True)
    for method in methods:
        plain, sent = ungated(scene, found, method), gated(scene, method)
        add(method, "off", plain.images, plain.unchanged, plain.exact)
        add(method, "on", sent.images, sent.unchanged, sent.exact, sent.refusal)
    return judged


def judged_published(
    group: PublishedScenes, methods: tuple[str, ...], *, subject: str, first_number: int
) -> Iterator[Judged]:
    """The scenes of protocol a; there is no gate, for the pipeline sees no sinograms."""
    half = len(group.scenes)
    made = {"input": group.scan.images}
    changes = {method: change_of(method) for method in methods}
    made |= {method: group.scan.images + change(group.scan) for method, change in changes.items() if change}
    for index, scene in enumerate(group.scenes):
        zones = zones_of(scene, scene.metal)
        judged = Judged(scene, [], {})
        pairs: dict[str, tuple[Image, Image | None]] = {
            method: (images[index], images[half + index] if scene.lesions.any() else None)
            for method, images in made.items()
        }
        pairs["metal-free"] = (group.metal_free, None)
        for method, (image, lesion) in pairs.items():
            facts = ("a", subject, first_number + index, scene.kind, scene.size, scene.metal_mm2)
            gate = "off" if method in methods else ""
            figures = figures_of(image, lesion, scene, zones)
            judged.rows.append(Row(*facts, method, gate, method == "input", True, "", figures))
            # for the pictures; the figures leave the metal out
            judged.images[method, gate] = np.where(scene.metal, scene.spoiled, image) if gate else image
        yield judged
