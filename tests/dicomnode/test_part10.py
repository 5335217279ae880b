"""A file's meta information is read or refused, and its data set begins where pydicom finds it to begin."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import JPEGLSLossless

from dicomnode import part10
from dicomnode.part10 import ReadAhead, data_set_of, meta_of, open_data_set, read_meta
from tests.builders_dicom import write_ct_series


def file_of(folder: Path, **options: object) -> Path:
    return write_ct_series(folder, slices=1, **options)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("private_bytes", [0, 5_000], ids=["usual", "long private information"])
@pytest.mark.parametrize("with_group_length", [True, False])
def test_the_data_set_begins_where_pydicom_begins_it(
    tmp_path: Path, with_group_length: bool, private_bytes: int
) -> None:
    path = file_of(tmp_path, transfer_syntax_uid=JPEGLSLossless)
    dataset = dcmread(path)
    if private_bytes:
        dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
        dataset.file_meta.PrivateInformation = bytes(private_bytes)
    dataset.save_as(path)
    if not with_group_length:
        content = path.read_bytes()
        path.write_bytes(content[:132] + content[144:])
    with path.open("rb") as file:
        read_preamble(file, False)
        _read_file_meta_info(file)
        begins_at = file.tell()
    meta = read_meta(path)
    assert meta.data_set_at == begins_at
    assert (meta.sop_instance_uid, meta.sop_class_uid) == (dataset.SOPInstanceUID, dataset.SOPClassUID)
    assert meta.transfer_syntax_uid == JPEGLSLossless
    with open_data_set(path) as data_set:
        assert b"".join(data_set.pieces) == path.read_bytes()[begins_at:]
        assert data_set.meta == meta and data_set.length == path.stat().st_size - begins_at


def test_a_long_file_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path)
    monkeypatch.setattr(part10, "PIECE_BYTES", 1000)
    with open_data_set(path) as data_set:
        pieces = [bytes(piece) for piece in data_set.pieces]
    assert len(pieces) > 5 and max(map(len, pieces)) <= 1000
    whole = data_set_of(path.read_bytes())
    assert b"".join(pieces) == b"".join(whole.pieces) and len(b"".join(pieces)) == whole.length == data_set.length


def test_what_is_read_ahead_is_used_once_and_for_its_own_file(tmp_path: Path) -> None:
    first, second = write_ct_series(tmp_path, slices=2)
    ahead, before = ReadAhead(), first.read_bytes()
    ahead.read(tmp_path / "not there")
    ahead.read(first)
    with ahead.open(second) as data_set:
        assert data_set.meta == read_meta(second)
    ahead.read(first)
    first.write_bytes(second.read_bytes())
    with ahead.open(first) as held:
        assert held.meta == meta_of(before)
    with ahead.open(first) as as_it_is:
        assert as_it_is.meta == read_meta(second)


def test_a_file_that_is_cut_in_its_meta_information_is_refused_at_every_length(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    content, begins_at = path.read_bytes(), read_meta(path).data_set_at
    for length in range(begins_at):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidDicomError):
            read_meta(path)


@pytest.mark.parametrize("tag", [b"\x02\0\x02\0", b"\x02\0\x03\0", b"\x02\0\x10\0"])
def test_a_file_that_does_not_say_what_it_holds_is_refused(tmp_path: Path, tag: bytes) -> None:
    content = file_of(tmp_path).read_bytes()
    with pytest.raises(InvalidDicomError, match="without a UID"):
        meta_of(content.replace(tag, b"\x02\0\xf0\0", 1))


@pytest.mark.parametrize("wrong", [-10, -8, 2, 400])
def test_a_wrong_group_length_never_shifts_the_data_set(tmp_path: Path, wrong: int) -> None:
    content = file_of(tmp_path).read_bytes()
    length = int.from_bytes(content[140:144], "little")
    with pytest.raises(InvalidDicomError):
        meta_of(content[:140] + (length + wrong).to_bytes(4, "little") + content[144:])


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_is_raised(garbage: bytes) -> None:
    with pytest.raises(InvalidDicomError):
        meta_of(bytes(128) + b"DICM" + garbage)
