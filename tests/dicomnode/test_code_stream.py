"""Size, depth and sign of a compressed frame are read from its own header and held against the file's."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomnode.code_stream import CodeStream, code_stream_of, fault_of
from tests.builders_dicom import ct_values, write_ct_series

SOF = bytes.fromhex("ffc3 000b 0c 0021 002e 01 011100")  # 12 bits, 33 rows, 46 columns
TABLE = bytes.fromhex("ffc4 0005 000000")


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (JPEG2000Lossless, CodeStream(33, 46, 12, False)),
        (JPEGLSLossless, CodeStream(33, 46, 12)),
        (RLELossless, None),
    ],
    ids=["JPEG 2000", "JPEG-LS", "RLE"],
)
def test_an_encoded_image_says_its_rows_columns_and_bits(
    tmp_path: Path, syntax: str, expected: CodeStream | None
) -> None:
    path = write_ct_series(tmp_path, values=ct_values(1, 33, 46), transfer_syntax_uid=syntax)[0]
    assert code_stream_of(next(generate_frames(dcmread(path).PixelData, number_of_frames=1))) == expected


@pytest.mark.parametrize(
    "before",
    [b"", TABLE, b"\xff\xff\xff" + TABLE[1:], b"\xff\xe0\x00\x10" + bytes(14)],
    ids=["", "table", "fill", "app"],
)
def test_what_stands_before_the_frame_header_of_a_jpeg_is_passed_over(before: bytes) -> None:
    assert code_stream_of(b"\xff\xd8" + before + SOF) == CodeStream(33, 46, 12)


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc3\x00", b"\xff\xd8" + TABLE, bytes(80)])
def test_a_stream_that_does_not_say_has_no_size(stream: bytes) -> None:
    assert code_stream_of(stream) is None


def test_a_jpeg_2000_image_that_begins_off_its_origin_has_the_size_of_its_area() -> None:
    numbers = b"".join(value.to_bytes(4, "big") for value in (50, 40, 4, 7))
    stream = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + numbers + bytes(16) + b"\x00\x01\x8c\x01\x01"
    assert code_stream_of(stream) == CodeStream(33, 46, 13, True)
    signature = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(30)
    assert code_stream_of(signature + stream) == CodeStream(33, 46, 13, True)


@pytest.mark.parametrize(
    ("stream_bits", "is_stream_signed", "bits_stored", "is_signed", "words"),
    [
        (12, None, 12, True, ""),
        (16, None, 12, True, ""),
        (16, True, 12, True, ""),
        (12, False, 16, False, ""),
        (16, None, 8, False, ""),
        (8, None, 8, False, ""),
        (11, None, 16, True, "holds 16 bits by its header and 11 by its compressed pixels"),
        (13, True, 12, True, "holds 12 bits by its header and 13 by its compressed pixels"),
        (8, None, 12, False, "holds 12 bits by its header and 8 by its compressed pixels"),
        (17, False, 16, False, "holds 16 bits by its header and 17 by its compressed pixels"),
        (16, True, 16, False, "is unsigned by its header and signed by its compressed pixels"),
        (12, False, 12, True, "is signed by its header and unsigned by its compressed pixels"),
    ],
)
def test_depth_and_sign_are_those_of_the_header_or_such_as_encoders_write(
    stream_bits: int, is_stream_signed: bool | None, bits_stored: int, is_signed: bool, words: str
) -> None:
    stream = CodeStream(4, 4, stream_bits, is_stream_signed)
    assert fault_of(stream, bits_stored=bits_stored, is_signed=is_signed) == words
