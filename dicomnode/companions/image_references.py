"""References from companions to source and derived images, one item an instance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import neutral_dataset
from dicomnode.patient_position import code_item
from dicomnode.provenance import SOURCE_IMAGE
from dicomnode.source_image import SourceImage


def instances_of(images: Iterable[SourceImage]) -> dict[tuple[str, str], tuple[int, ...]]:
    """SOP Class and SOP Instance UID of each source instance, and the frames used of it; none of a single-frame one."""
    frames: dict[tuple[str, str], list[int]] = {}
    for image in images:
        used = frames.setdefault((image.text("SOPClassUID"), image.sop_instance_uid), [])
        if image.frame:
            used.append(image.frame)
    return {instance: tuple(sorted(used)) for instance, used in frames.items()}


def source_items(derivation: Derivation, slices: Sequence[int]) -> DicomSequence:
    """The derived and the source images of these slices as items of a Source Image Sequence."""
    derived = {(str(derivation.derived[k].SOPClassUID), str(derivation.derived[k].SOPInstanceUID)): () for k in slices}
    items = []
    for (sop_class_uid, sop_instance_uid), frames in (
        *derived.items(),
        *instances_of(derivation.images[k] for k in slices).items(),
    ):
        item = _reference(sop_class_uid, sop_instance_uid)
        if frames:
            item.ReferencedFrameNumber = list(frames)
        item.PurposeOfReferenceCodeSequence = DicomSequence([code_item(*SOURCE_IMAGE)])
        items.append(item)
    return DicomSequence(items)


def series_items(derivation: Derivation, slices: Sequence[int]) -> DicomSequence:
    """The same images as items of a Referenced Series Sequence."""
    derived = [_reference(str(image.SOPClassUID), str(image.SOPInstanceUID)) for image in derivation.derived]
    sources = [_reference(*instance) for instance in instances_of(derivation.images[k] for k in slices)]
    return DicomSequence(
        [
            _series(str(derivation.derived[0].SeriesInstanceUID), [derived[k] for k in slices]),
            _series(derivation.images[0].text("SeriesInstanceUID"), sources),
        ]
    )


def evidence(derivation: Derivation, others: Sequence[Dataset] = ()) -> list[Dataset]:
    """All source and derived instances, and others, as highdicom wants evidence: only the first has more than UIDs."""
    first = derivation.images[0]
    study, series = first.text("StudyInstanceUID"), first.text("SeriesInstanceUID")
    sources = [_instance(study, series, *instance) for instance in instances_of(derivation.images)]
    rest = [
        _instance(study, str(each.SeriesInstanceUID), str(each.SOPClassUID), str(each.SOPInstanceUID))
        for each in (*derivation.derived, *others)
    ]
    return [neutral_dataset(first), *sources[1:], *rest]


def _instance(study: str, series: str, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    return dataset


def _series(series_instance_uid: str, instances: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedInstanceSequence = DicomSequence(instances)
    return item


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item
