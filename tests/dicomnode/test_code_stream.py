"""The size of a compressed frame is read from its own header."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomnode.code_stream import size_of
from tests.builders_dicom import ct_values, write_ct_series

SOF = bytes.fromhex("ffc3 000b 0c 0021 002e 01 011100")  # 33 rows, 46 columns
TABLE = bytes.fromhex("ffc4 0005 000000")


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [(JPEG2000Lossless, (33, 46)), (JPEGLSLossless, (33, 46)), (RLELossless, None)],
    ids=["JPEG 2000", "JPEG-LS", "RLE"],
)
def test_an_encoded_image_says_its_rows_and_columns(
    tmp_path: Path, syntax: str, expected: tuple[int, int] | None
) -> None:
    path = write_ct_series(tmp_path, values=ct_values(1, 33, 46), transfer_syntax_uid=syntax)[0]
    assert size_of(next(generate_frames(dcmread(path).PixelData, number_of_frames=1))) == expected


@pytest.mark.parametrize(
    "before",
    [b"", TABLE, b"\xff\xff\xff" + TABLE[1:], b"\xff\xe0\x00\x10" + bytes(14)],
    ids=["", "table", "fill", "app"],
)
def test_what_stands_before_the_frame_header_of_a_jpeg_is_passed_over(before: bytes) -> None:
    assert size_of(b"\xff\xd8" + before + SOF) == (33, 46)


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc3\x00", b"\xff\xd8" + TABLE, bytes(80)])
def test_a_stream_that_does_not_say_has_no_size(stream: bytes) -> None:
    assert size_of(stream) is None


def test_a_jpeg_2000_image_that_begins_off_its_origin_has_the_size_of_its_area() -> None:
    numbers = b"".join(value.to_bytes(4, "big") for value in (50, 40, 4, 7))
    assert size_of(b"\xff\x4f\xff\x51\x00\x29\x00\x00" + numbers) == (33, 46)
