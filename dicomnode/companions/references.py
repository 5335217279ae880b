"""UIDs and references of an object beside a derived series: nothing random, nothing strange, nothing dangling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import RFC_4122, UUID

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.companions.derivation import Derivation
from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import OutputFault
from dicomnode.uids import deterministic_uid
from dicomnode.verbatim import TEXT_VRS

REGISTERED = "1.2.840.10008."
OF_UUIDS = "2.25."
PLACES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
FRAMES_OF_REFERENCE = frozenset({"FrameOfReferenceUID", "ReferencedFrameOfReferenceUID"})


def settle_uids(made: Dataset, derivation: Derivation) -> None:
    """Replaces every UID that was made at random by one that depends on the object and its place in it only.

    Kept are registered UIDs, those of the sources and of the derived images, and those the node made: version 5 UUIDs.
    References are no exception: one that names none of these is found by `check_references`.
    """
    known = _places([image.dataset for image in derivation.images]) | _places(derivation.derived)
    settled: dict[str, str] = {}

    def settle(uid: str) -> str:
        if not uid or uid in known or uid.startswith(REGISTERED) or _is_name_based(uid):
            return uid
        parts = [made.SOPInstanceUID, "uid", str(len(settled) + 1)]
        return settled.setdefault(uid, deterministic_uid(derivation.job.deployment_uuid, parts))

    for _, element in _elements(made):
        if element.VR != "UI" or not element.value:
            continue
        if isinstance(element.value, MultiValue | list):
            element.value = [settle(str(uid)) for uid in element.value]
        else:
            element.value = settle(str(element.value))


def _places(datasets: Iterable[Dataset]) -> set[str]:
    return {str(dataset[keyword].value) for dataset in datasets for keyword in PLACES if keyword in dataset}


def _is_name_based(uid: str) -> bool:
    """Whether the UID is a name-based UUID, as the node makes them (U1); random ones have version 4."""
    if not uid.startswith(OF_UUIDS):
        return False
    number = int(uid[len(OF_UUIDS) :])
    if number >= 1 << 128:
        return False
    uuid = UUID(int=number)
    return uuid.variant == RFC_4122 and uuid.version == 5


def check_references(made: Dataset, derivation: Derivation, companions: Sequence[DerivedInstance]) -> None:
    """Raises OutputFault unless all that is referred to are sources, derived images or the named companions."""
    class_of = {image.sop_instance_uid: image.text("SOPClassUID") for image in derivation.images}
    class_of |= {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in derivation.derived}
    class_of |= {companion.sop_instance_uid: companion.sop_class_uid for companion in companions}
    first, derived = derivation.images[0], derivation.derived[0]
    places = {
        "StudyInstanceUID": {first.text("StudyInstanceUID")},
        "SeriesInstanceUID": {image.text("SeriesInstanceUID") for image in derivation.images}
        | {str(derived.SeriesInstanceUID), str(made.SeriesInstanceUID)}
        | {companion.series_instance_uid for companion in companions},
    }
    frames = {first.text("FrameOfReferenceUID"), str(derived.get("FrameOfReferenceUID", ""))}
    for dataset, element in _elements(made):
        if element.keyword == "ReferencedSOPInstanceUID":
            sop_class_uid = class_of.get(str(element.value))
            if sop_class_uid is None:
                raise OutputFault("C14", f"the object refers to {element.value}, of which it was not made")
            if str(dataset.get("ReferencedSOPClassUID", "")) != sop_class_uid:
                raise OutputFault("C14", f"the object refers to {element.value} as if it were of another class")
        allowed = frames if element.keyword in FRAMES_OF_REFERENCE else places.get(element.keyword)
        if allowed is not None and element.value and str(element.value) not in allowed:
            raise OutputFault("C14", f"{element.keyword} {element.value} is neither the source's nor the job's")


def references_of(made: Dataset) -> set[str]:
    """The SOP Instance UIDs of all that the object refers to."""
    return {str(element.value) for _, element in _elements(made) if element.keyword == "ReferencedSOPInstanceUID"}


def check_texts(made: Dataset) -> None:
    """Raises OutputFault for a text of ours that is not plain ASCII: it would be misread in another character set."""
    for _, element in _elements(made):
        if element.VR in TEXT_VRS and element.value and not str(element.value).isascii():
            raise OutputFault("K1", f"{element.keyword} holds other than ASCII; what the node adds must be ASCII")


def _elements(dataset: Dataset) -> Iterator[tuple[Dataset, DataElement]]:
    """Every element with the data set it stands in, items included, in the order of the file."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _elements(item)
        else:
            yield dataset, element
