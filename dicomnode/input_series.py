"""The series that a job reads beside its source, as one Volume; whose it is, is asked once more of its headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicomnode.errors import SeriesUnusable
from dicomnode.headers import read_header
from dicomnode.load import load_stack
from dicomnode.slots import same_patient
from dicomnode.stacks import Allowed, planned_stacks
from inference.volume import Volume


def load_input(slot: str, files: Sequence[Path], source_files: Sequence[Path], *, accept_lossy: bool) -> Volume:
    """The volume of an input: a series as whole and even as a source has to be.

    Raises SeriesUnusable for what is not one stack of known unit, and for images of another patient than the source's.
    """
    sources = [read_header(path).values for path in source_files[:1]]
    for path in files:
        header = read_header(path)
        if not all(same_patient(source, header.values) for source in sources):
            raise SeriesUnusable(
                "input-other-patient",
                f"{slot}: series {header.series_instance_uid} is of another patient than the source; "
                "correct who it is of",
            )
    plans = planned_stacks(files, allowed=Allowed(accept_lossy=accept_lossy))
    if len(plans) != 1:
        raise SeriesUnusable(
            "input-not-one-stack", f"{slot}: the series holds {len(plans)} stacks; correct what the rule chooses"
        )
    return load_stack(plans[0])[0]
