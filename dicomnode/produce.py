"""A job's stacks become derived series and what stands beside them, each instance kept as it is made."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from io import BytesIO
from itertools import groupby
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.derive import derive_frames
from dicomnode.derived_instance import DerivedInstance, Described
from dicomnode.errors import SeriesUnusable
from dicomnode.fingerprints import header_sha256, pixel_sha256
from dicomnode.handling import Handling
from dicomnode.headers import header_values
from dicomnode.input_series import load_input
from dicomnode.load import load_stack
from dicomnode.provenance import JobFacts
from dicomnode.source_image import SourceImage
from dicomnode.stacks import Allowed, StackPlan, planned_stacks
from inference.errors import SourceRefused
from inference.pipeline import Card, Outcome, Pipeline, run_pipeline
from inference.volume import Volume
from storage.catalog import Instance
from storage.jobs import Job

Keep = Callable[[DerivedInstance], str]
"""Makes an instance durable and gives the SHA-256 of its file; several threads may call it at once."""
KEEPERS, MOST_UNKEPT = 2, 8
"""How many threads keep instances, and how many instances wait for them in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One derived series and the objects beside it, all kept.

    images, beside: the catalogue's rows. pixels, headers: SOP Instance UID -> SHA-256 of its pixels, of its header.
    sources: the files it was made of. facts: those it was derived with. notes: sentences for the audit.
    """

    images: tuple[Instance, ...]
    beside: tuple[Instance, ...]
    pixels: Mapping[str, str | None]
    headers: Mapping[str, str]
    facts: JobFacts
    sources: tuple[SourceImage, ...]
    measurements: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def series_instance_uid(self) -> str:
        """The derived series."""
        return self.images[0].series_instance_uid


@dataclass(frozen=True, slots=True, eq=False)
class Produced:
    """All that a job derived, and in words what of its series was refused."""

    products: tuple[Product, ...]
    refused: tuple[str, ...]


def produce(
    job: Job,
    pipeline: Pipeline,
    files: Sequence[Path],
    *,
    facts: JobFacts,
    accept_lossy: bool,
    keep: Keep,
    inputs: Mapping[str, Sequence[Path]] | None = None,
) -> Produced:
    """A derived series of each stack (of all time frames together where they make one series).

    facts: with the SHA-256 of all parameters, as `with_parameters` gives them. inputs: the files of what the pipeline
    needs beside its source, by the card's names.
    Raises SourceRefused or SeriesUnusable when nothing of the series can be derived honestly; where only some stacks
    are refused, the others are derived and it is said which are not.
    """
    handling = Handling.from_json(job.handling)
    allowed = Allowed(
        accept_lossy=accept_lossy,
        slicewise=pipeline.card.slicewise,
        split_mixed=handling.split_mixed,
        split_uneven=handling.split_uneven,
        accept_own=handling.follows,
    )
    beside = {slot: load_input(slot, paths, files, accept_lossy=accept_lossy) for slot, paths in (inputs or {}).items()}
    products: list[Product] = []
    refusals: list[SourceRefused | SeriesUnusable] = []
    refused: list[str] = []
    groups = groupby(planned_stacks(files, allowed=allowed), key=lambda plan: plan.group)
    for stack, (_, plans) in enumerate(groups):
        group = list(plans)
        try:
            of_stack = replace(facts, stack=stack, apart=group[0].apart)
            products.append(_derive_group(job, pipeline, group, beside, facts=of_stack, handling=handling, keep=keep))
        except (SourceRefused, SeriesUnusable) as refusal:
            refusals.append(refusal)
            refused.append(f"{group[0].apart or 'the stack'}: {refusal.reason_code}: {refusal}")
    if not products:
        raise refusals[0]
    return Produced(tuple(products), tuple(refused))


def with_parameters(facts: JobFacts, card: Card) -> JobFacts:
    """The facts with the SHA-256 (hex) of all that shapes the bytes beside sources and pipeline.

    The same UIDs must mean the same bytes (DERIVED_SERIES U4): an upgrade, another qualification or another job row
    makes another series.
    """
    shaped_by = {
        one.name: str(getattr(facts, one.name))
        for one in fields(facts)
        if one.name not in ("generation", "apart", "stack", "parameters_sha256")
        and (one.name != "inputs" or facts.inputs)  # the same UIDs as before for what reads only its source
    }
    shaped_by["utc_offset"] = str(facts.created_at.astimezone().utcoffset())  # of times where the source names no zone
    text = json.dumps([card.method, dict(card.settings), shaped_by], sort_keys=True, default=str)
    return replace(facts, parameters_sha256=hashlib.sha256(text.encode()).hexdigest())


@dataclass(slots=True, eq=False)
class _Made:
    """What has been kept so far of one derived series."""

    images: list[Instance]
    beside: list[Instance]
    pixels: dict[str, str | None]
    headers: dict[str, str]
    undecoded: list[Dataset]


def _derive_group(
    job: Job,
    pipeline: Pipeline,
    group: Sequence[StackPlan],
    inputs: Mapping[str, Volume],
    *,
    facts: JobFacts,
    handling: Handling,
    keep: Keep,
) -> Product:
    """Load, run, derive, keep: the whole of the work, in the order of the river."""
    done: list[tuple[Volume | None, Outcome, tuple[SourceImage, ...]]] = []
    for plan in group:
        source, images = load_stack(plan)
        outcome = run_pipeline(pipeline, source, inputs)
        done.append((source if handling.also else None, outcome, images))  # many time frames fill the memory
    made = _Made([], [], {}, {}, [])
    frames = [(outcome, images) for _, outcome, images in done]
    clipped = 0
    for instance, kept in _each_kept(derive_frames(frames, pipeline.card, job=facts), keep):
        clipped += instance.clipped_voxels
        made.images.append(_listed(instance, kept, made, job))
        if handling.also:  # read anew: what stands beside copies texts that nobody has decoded yet
            made.undecoded.append(dcmread(BytesIO(instance.content), stop_before_pixels=True))
    notes = _notes(group, [outcome for _, outcome, _ in done], clipped)
    if handling.also:
        notes += _derive_beside(job, done, pipeline.card, made, facts=facts, handling=handling, keep=keep)
    return Product(
        images=tuple(made.images),
        beside=tuple(made.beside),
        pixels=made.pixels,
        headers=made.headers,
        facts=facts,
        sources=tuple(image for _, _, images in done for image in images),
        measurements=_measurements([outcome for _, outcome, _ in done]),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """SHA-256 (hex) of a durable instance's file and of its pixels."""

    file_sha256: str
    pixel_sha256: str | None


def _each_kept(instances: Iterator[DerivedInstance], keep: Keep) -> Iterator[tuple[DerivedInstance, _Kept]]:
    """Each instance in its order once it is durable; while the disk takes some, the next ones are made.

    A fault of keeping one is raised before any that comes later in the order, also one of making.
    """
    waiting: deque[tuple[DerivedInstance, Future[_Kept]]] = deque()
    with ThreadPoolExecutor(KEEPERS, thread_name_prefix="keep") as keepers:
        try:
            for instance in instances:
                waiting.append((instance, keepers.submit(_keep, instance, keep)))
                if len(waiting) > MOST_UNKEPT:
                    earlier, future = waiting[0]
                    yield earlier, future.result()
                    waiting.popleft()
        except Exception:
            for _, future in waiting:
                future.result()
            raise
        for instance, future in waiting:
            yield instance, future.result()


def _keep(instance: DerivedInstance, keep: Keep) -> _Kept:
    described = instance.described
    if described is None:
        return _Kept(keep(instance), pixel_sha256(dcmread(BytesIO(instance.content))))
    pixels = memoryview(instance.content)[-described.pixel_bytes :]
    return _Kept(keep(instance), hashlib.sha256(pixels).hexdigest())


def _derive_beside(
    job: Job,
    done: Sequence[tuple[Volume | None, Outcome, tuple[SourceImage, ...]]],
    card: Card,
    made: _Made,
    *,
    facts: JobFacts,
    handling: Handling,
    keep: Keep,
) -> list[str]:
    """The objects beside the images are kept; what was wanted and does not apply is said."""
    from dicomnode.companions.companions import derive_companions  # highdicom takes its time to be imported
    from dicomnode.companions.derivation import Derivation

    notes: list[str] = []
    first = 0
    for frame, (source, outcome, images) in enumerate(done):
        assert source is not None
        headers = tuple(made.undecoded[first : first + len(images)])
        first += len(images)
        derivation = Derivation(source, outcome, card, images, headers, facts, part=frame)
        for companion in derive_companions(handling.also, derivation):
            for instance in companion.instances:
                made.beside.append(_listed(instance, _keep(instance, keep), made, job))
            notes += [companion.why_left_out] if companion.why_left_out else []
    return notes


def _listed(instance: DerivedInstance, kept: _Kept, made: _Made, job: Job) -> Instance:
    """What the catalogue will hold of an instance that is durable now; its fingerprints are noted for the passport.

    What the gate has read of the file is not read again.
    """
    described = instance.described
    if described is None:
        dataset = dcmread(BytesIO(instance.content))
        described = Described(header_values(dataset), header_sha256(dataset), 0)
    made.headers[instance.sop_instance_uid] = described.header_sha256
    made.pixels[instance.sop_instance_uid] = kept.pixel_sha256
    return Instance(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        series_instance_uid=instance.series_instance_uid,
        study_instance_uid=job.study_instance_uid,
        peer="",
        received_at=job.created_at,
        sha256=kept.file_sha256,
        size_bytes=len(instance.content),
        header=described.header,
    )


def _notes(group: Sequence[StackPlan], outcomes: Sequence[Outcome], clipped: int) -> list[str]:
    """What an operator should know of one derived series, each sentence once."""
    notes = [note for plan in group for note in plan.left_out]
    if group[0].apart:
        notes.insert(0, f"This is the stack with {group[0].apart} of a mixed series.")
    notes += [note for outcome in outcomes for note in outcome.notes]
    if clipped:
        notes.append(f"{clipped} voxels below -1024 or above 3071 HU were clipped to fit 12 bits.")
    return list(dict.fromkeys(notes))


def _measurements(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The measurements by name; of several time frames, by name and number of the frame."""
    if len(outcomes) == 1:
        return dict(outcomes[0].measurements)
    return {
        f"{name}_{number}": value
        for number, outcome in enumerate(outcomes, 1)
        for name, value in outcome.measurements.items()
    }
