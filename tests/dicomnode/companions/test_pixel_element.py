"""Pixels behind a head, part by part."""

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ParametricMapStorage

from dicomnode.companions.pixel_element import Pixels
from dicomnode.errors import OutputFault
from dicomnode.verbatim import encoded, part10_file


def head() -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ParametricMapStorage, "1.2.3"
    return part10_file(encoded(dataset), sop_class_uid=ParametricMapStorage, sop_instance_uid="1.2.3")


def test_the_parts_are_read_back_as_one_element() -> None:
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    made = Pixels("FloatPixelData", "OF", values.nbytes, (row.tobytes() for row in values)).behind(head())
    dataset = dcmread(BytesIO(made))
    assert dataset["FloatPixelData"].VR == "OF" and dataset.SOPInstanceUID == "1.2.3"
    assert np.array_equal(np.frombuffer(dataset.FloatPixelData, "<f4"), values.ravel())


def test_an_odd_length_is_padded_with_a_zero_byte() -> None:
    dataset = dcmread(BytesIO(Pixels("PixelData", "OB", 3, [b"\x01", b"\x02\x03"]).behind(head())))
    assert dataset.PixelData == b"\x01\x02\x03\x00"


@pytest.mark.parametrize("parts", [[], [b"123"], [b"1234", b"5"]])
def test_parts_of_another_length_than_said_are_a_fault(parts: list[bytes]) -> None:
    with pytest.raises(OutputFault, match=r"G1: PixelData has \d bytes, not 4"):
        Pixels("PixelData", "OB", 4, parts).behind(head())


def test_no_more_than_one_and_a_half_times_the_file_is_held() -> None:
    part, count = bytes(1 << 20), 24
    tracemalloc.start()
    made = Pixels("PixelData", "OB", count << 20, (part[:-1] + b"x" for _ in range(count))).behind(head())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * len(made)
