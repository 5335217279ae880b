"""Whatever one attribute of a header holds, a series is read or refused with a reason; nothing else is raised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ImplicitVRLittleEndian

from dicomnode.errors import SeriesUnusable
from dicomnode.load import Allowed, load_stack, planned_stacks
from tests.builders_dicom import write_ct_series, write_mr_series, write_pet_series
from tests.builders_enhanced import write_enhanced

Spoil = Callable[[Dataset, DataElement], None]


def put(vr: str, value: Any) -> Spoil:
    def spoil(holder: Dataset, element: DataElement) -> None:
        holder[element.tag] = DataElement(element.tag, vr, value)

    return spoil


def again(holder: Dataset, element: DataElement) -> None:
    """The value, twice."""
    if element.VR == "SQ":
        holder[element.tag] = DataElement(element.tag, "SQ", DicomSequence([*element.value, *element.value]))
    elif isinstance(element.value, bytes):
        holder[element.tag] = DataElement(element.tag, element.VR, element.value * 2)
    else:
        several = list(element.value) if element.VM > 1 else [element.value]
        holder[element.tag] = DataElement(element.tag, element.VR, several * 2)


def gone(holder: Dataset, element: DataElement) -> None:
    del holder[element.tag]


SPOILS: dict[str, Spoil] = {
    "gone": gone,
    "empty": lambda holder, element: put(element.VR, None)(holder, element),
    "twice": again,
    "a text": put("LO", "seven"),
    "bytes": put("OB", b"\xff\xfe\x00\x01"),
    "a sequence": put("SQ", DicomSequence([Dataset()])),
    "a number": put("FD", float("inf")),
    "several numbers": put("US", [65535, 0, 3]),
    "a long text": put("UT", "9" * 400),
}
SERIES: dict[str, Callable[[Path], list[Path]]] = {
    "CT": lambda folder: write_ct_series(folder, slices=2, rows=4, columns=4, PixelPaddingValue=0),
    "MR": lambda folder: write_mr_series(folder, slices=2, rows=4, columns=4),
    "PET": lambda folder: write_pet_series(folder, slices=2, rows=4, columns=4),
    "enhanced CT": lambda folder: [write_enhanced(folder / "x.dcm", "CT", slices=2, rows=4, columns=4)],
    "enhanced MR": lambda folder: [write_enhanced(folder / "x.dcm", "MR", slices=2, rows=4, columns=4)],
    "enhanced PET": lambda folder: [write_enhanced(folder / "x.dcm", "PT", slices=2, rows=4, columns=4)],
}


def places(dataset: Dataset, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each element of a data set, also within its sequences: tags and numbers of items."""
    for element in dataset:
        yield (*path, element.tag)
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from places(item, (*path, element.tag, number))


def spoiled(content: Path, place: tuple[Any, ...], spoil: Spoil, to: Path, *, implicit: bool) -> None:
    """implicit: the VR is not written, so what reads it takes the value for what the attribute should hold."""
    dataset = dcmread(content)
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    holder: Any = dataset
    for step in place[:-1]:
        holder = holder[step] if isinstance(step, int) and not isinstance(holder, Dataset) else holder[step].value
    spoil(holder, holder[place[-1]])
    dcmwrite(to, dataset, implicit_vr=implicit, little_endian=True)


@pytest.fixture
def writes_anything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("writes_anything")
@pytest.mark.parametrize("nth", range(len(SPOILS)), ids=list(SPOILS))
@pytest.mark.parametrize("write", SERIES.values(), ids=list(SERIES))
def test_any_attribute_of_a_header_may_be_spoiled_and_the_series_is_read_or_refused(
    tmp_path: Path, write: Callable[[Path], list[Path]], nth: int
) -> None:
    """Each spoil is tried on every fourth attribute, another fourth than its neighbours."""
    first, *others = write(tmp_path)
    odd, tried = tmp_path / "odd.dcm", 0
    for number, place in enumerate(list(places(dcmread(first)))):
        if number % 4 != nth % 4:
            continue
        try:
            spoiled(first, place, list(SPOILS.values())[nth], odd, implicit=number % 8 < 4)
        except Exception:  # what pydicom does not write is not tried; how much is tried is counted
            continue
        tried += 1
        try:
            for plan in planned_stacks([odd, *others], allowed=Allowed(split_mixed=True, split_uneven=True)):
                load_stack(plan)
        except SeriesUnusable as fault:
            assert fault.reason_code
        except Exception as fault:
            raise AssertionError(f"{place} spoiled: {type(fault).__name__}: {fault}") from fault
    assert tried > 5
