"""Whatever transfer syntax a peer takes, it gets the same pixels and texts, or is told nothing at all."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    ParametricMapStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt

from dicomnode.errors import PeerRejected
from dicomnode.outgoing import outbound, store_instances
from dicomnode.peer import Peer
from storage.ledger import LedgerState, Result
from tests.builders_dicom import ct_values, with_bytes, write_ct_series
from tests.builders_objects import write_document, write_float_map, write_picture, write_segmentation
from tests.peers import free_port, storescp
from tests.validators import dcmtk

CLASSES = [
    CTImageStorage,
    SegmentationStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    ComprehensiveSRStorage,
]
BESIDE = [write_segmentation, write_float_map, write_picture, write_document]


def named(value: object) -> str | None:
    return value.keyword if isinstance(value, UID) else None


@contextmanager
def archive(syntaxes: Sequence[str], *, compression: Any = "none") -> Iterator[tuple[Peer, dict[str, FileDataset]]]:
    """A peer that takes the transfer syntaxes for every class, and what it got."""
    entity, got = AE("ARCHIVE"), {}
    for sop_class in CLASSES:
        entity.add_supported_context(sop_class, list(syntaxes))

    def on_store(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        got[str(event.request.AffectedSOPInstanceUID)] = dataset
        return 0x0000

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    port = server.server_address[1]
    try:
        yield Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, compression=compression), got
    finally:
        entity.shutdown()


def ct_of_16_bits(folder: Path, **options: Any) -> list[Path]:
    """Two CT slices of signed 16 bits that reach both ends."""
    values = ct_values(2, 64, 64)
    values[:, :8, :8] = np.linspace(-32768, 32767, 64).astype(int).reshape(8, 8)
    return write_ct_series(folder, values=values, intercept=0, **options)


def send(peer: Peer, paths: Sequence[Path]) -> list[Result]:
    return list(store_instances(peer, [outbound(path) for path in paths], ae_title="DICOMNODE"))


def all_done(results: Sequence[Result]) -> bool:
    return all(result.state is LedgerState.DONE for result in results)


@pytest.mark.parametrize(
    "only", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=named
)
def test_a_peer_that_takes_one_transfer_syntax_gets_the_same_pixels_in_it(tmp_path: Path, only: str) -> None:
    paths = ct_of_16_bits(tmp_path)
    with archive([only]) as (peer, got):
        assert all_done(send(peer, paths))
    for path in paths:
        source = dcmread(path)
        received = got[source.SOPInstanceUID]
        assert received.file_meta.TransferSyntaxUID == only
        assert np.array_equal(received.pixel_array, source.pixel_array)
        assert received.PatientName == source.PatientName


@pytest.mark.parametrize(
    ("takes", "compression", "gets"),
    [
        ([JPEGLSLossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian], "none", ExplicitVRLittleEndian),
        ([RLELossless, JPEGLSLossless, ImplicitVRLittleEndian], "none", ImplicitVRLittleEndian),
        ([RLELossless, JPEG2000Lossless, JPEGLSLossless], "none", JPEGLSLossless),
        ([RLELossless, ExplicitVRLittleEndian, JPEGLSLossless], "jpeg-ls", JPEGLSLossless),
        ([JPEG2000Lossless, ExplicitVRLittleEndian, JPEGLSLossless], "jpeg-2000", JPEG2000Lossless),
        ([RLELossless, ExplicitVRLittleEndian], "rle", RLELossless),
        ([JPEGLSLossless, ExplicitVRLittleEndian], "rle", ExplicitVRLittleEndian),
    ],
)
def test_the_stored_syntax_goes_before_another_uncompressed_one_and_a_wish_goes_before_both(
    tmp_path: Path, takes: list[str], compression: str, gets: str
) -> None:
    (path,) = write_ct_series(tmp_path, slices=1)
    # A peer may accept every context; which one is used is then ours to choose.
    with archive(takes, compression=compression) as (peer, got):
        assert all_done(send(peer, [path]))
    (received,) = got.values()
    assert received.file_meta.TransferSyntaxUID == gets
    assert np.array_equal(received.pixel_array, dcmread(path).pixel_array)


@pytest.mark.parametrize("held", [JPEGLSLossless, JPEG2000Lossless, RLELossless, ExplicitVRBigEndian], ids=named)
@pytest.mark.parametrize("as_stored", [True, False], ids=["taken", "not taken"])
def test_what_was_received_compressed_is_sent_as_it_is_or_decoded(tmp_path: Path, held: str, as_stored: bool) -> None:
    (path,) = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=held)
    takes = [held, ExplicitVRLittleEndian] if as_stored else [ExplicitVRLittleEndian]
    with archive(takes, compression="jpeg-2000") as (peer, got):
        assert all_done(send(peer, [path]))
    (received,) = got.values()
    assert received.file_meta.TransferSyntaxUID == (held if as_stored else ExplicitVRLittleEndian)
    assert np.array_equal(received.pixel_array, dcmread(path).pixel_array)
    if as_stored:
        assert received.PixelData == dcmread(path).PixelData


@pytest.mark.parametrize("compression", ["none", "jpeg-ls", "rle"])
def test_what_stands_beside_images_leaves_with_them_uncompressed_or_exact(tmp_path: Path, compression: str) -> None:
    paths = [write(tmp_path / f"{number}.dcm") for number, write in enumerate(BESIDE)]
    paths += write_ct_series(tmp_path / "ct", slices=2)
    with archive([ImplicitVRLittleEndian, JPEGLSLossless, RLELossless], compression=compression) as (peer, got):
        assert all_done(send(peer, paths))
    for path in paths:
        source = dcmread(path)
        received = got[source.SOPInstanceUID]
        bits = source.get("BitsAllocated")
        if bits in (8, 16) and compression != "none":
            assert received.file_meta.TransferSyntaxUID in (JPEGLSLossless, RLELossless)
            assert np.array_equal(received.pixel_array, source.pixel_array)
        else:
            assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
            for keyword in ("PixelData", "FloatPixelData"):
                assert received.get(keyword) == source.get(keyword)


def test_bits_and_floats_are_not_forced_on_a_peer_that_takes_only_compressed(tmp_path: Path) -> None:
    beside = [write_segmentation(tmp_path / "s.dcm"), write_float_map(tmp_path / "m.dcm")]
    images = write_ct_series(tmp_path / "ct", slices=2)
    with archive([JPEGLSLossless]) as (peer, got):
        results = send(peer, beside + images)
    assert [result.state for result in results] == [LedgerState.REJECTED] * 2 + [LedgerState.DONE] * 2
    assert len(got) == 2


def test_an_image_that_no_lossless_form_can_hold_is_rejected_by_name_and_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def mark(k: int, dataset: Dataset) -> None:
        words = np.frombuffer(dataset.PixelData, "<u2").copy()
        words[5] |= 0x8000 * (k == 0)
        dataset.PixelData = words.tobytes()

    paths = write_ct_series(tmp_path, slices=2, each=mark)
    with archive([JPEGLSLossless]) as (peer, got):
        results = send(peer, paths)
    assert [result.state for result in results] == [LedgerState.REJECTED, LedgerState.DONE]
    assert len(got) == 1
    assert results[0].sop_instance_uid in caplog.text and "recoded from Explicit VR" in caplog.text
    assert "Phantom" not in caplog.text and "PHANTOM" not in caplog.text


def test_a_wish_that_an_image_cannot_meet_falls_back_to_uncompressed(tmp_path: Path) -> None:
    def mark(k: int, dataset: Dataset) -> None:
        words = np.frombuffer(dataset.PixelData, "<u2").copy()
        words[5] |= 0x8000
        dataset.PixelData = words.tobytes()

    (path,) = write_ct_series(tmp_path, slices=1, each=mark)
    with archive([JPEGLSLossless, ExplicitVRLittleEndian], compression="jpeg-ls") as (peer, got):
        assert all_done(send(peer, [path]))
    (received,) = got.values()
    assert received.PixelData == dcmread(path).PixelData


def test_compressed_pixels_that_cannot_be_decoded_are_rejected_and_the_others_go_on(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, slices=2, transfer_syntax_uid=JPEGLSLossless)
    broken = dcmread(paths[0])
    broken.PixelData = encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    broken["PixelData"].is_undefined_length = True
    broken.save_as(paths[0])
    with archive([ExplicitVRLittleEndian]) as (peer, got):
        results = send(peer, paths)
    assert [result.state for result in results] == [LedgerState.REJECTED, LedgerState.DONE]
    assert len(got) == 1


def test_a_peer_that_takes_nothing_we_can_make_is_an_operators_case(tmp_path: Path) -> None:
    with archive(["1.2.840.10008.1.2.4.50"]) as (peer, _), pytest.raises(PeerRejected, match="accepts none"):
        send(peer, write_ct_series(tmp_path, slices=1))


def test_names_in_escaped_chinese_arrive_byte_for_byte(tmp_path: Path) -> None:
    name = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= "
    (path,) = write_ct_series(
        tmp_path, slices=1, SpecificCharacterSet=["", "ISO 2022 IR 58"], PatientName="X" * len(name)
    )
    with_bytes(path, b"X" * len(name), name)
    for only in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless):
        with archive([only]) as (peer, got):
            assert all_done(send(peer, [path]))
        (received,) = got.values()
        raw = received.get_item("PatientName")
        assert raw is not None and raw.value == name, UID(only).name


DCMTK_CONFIG = r"""
[[TransferSyntaxes]]
[Only]
TransferSyntax1 = {syntax}
[[PresentationContexts]]
[All]
PresentationContext1 = CTImageStorage\Only
PresentationContext2 = SecondaryCaptureImageStorage\Only
[[Profiles]]
[Default]
PresentationContexts = All
"""


def uncompressed_by_dcmtk(path: Path, program: str) -> FileDataset:
    """What DCMTK's own decoder makes of a file."""
    decoded = path.with_suffix(".decoded")
    subprocess.run([dcmtk(program), str(path), str(decoded)], check=True, timeout=60)
    return dcmread(decoded)


def uncompressed_by_gdcm(path: Path, program: str) -> FileDataset:
    """What GDCM makes of a file (DCMTK has no decoder for JPEG 2000)."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    change.SetInput(reader.GetImage())
    assert change.Change()
    decoded = path.with_suffix(".decoded")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(decoded))
    assert writer.Write()
    return dcmread(decoded)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("only", "program", "read"),
    [
        (ExplicitVRLittleEndian, "dcmconv", uncompressed_by_dcmtk),
        (ImplicitVRLittleEndian, "dcmconv", uncompressed_by_dcmtk),
        (JPEGLSLossless, "dcmdjpls", uncompressed_by_dcmtk),
        (RLELossless, "dcmdrle", uncompressed_by_dcmtk),
        (JPEG2000Lossless, "", uncompressed_by_gdcm),
    ],
    ids=named,
)
def test_dcmtk_that_takes_one_transfer_syntax_reads_the_same_pixels(
    tmp_path: Path, only: UID, program: str, read: Callable[[Path, str], FileDataset]
) -> None:
    paths = [*ct_of_16_bits(tmp_path / "made"), write_picture(tmp_path / "picture.dcm")]
    config, inbox, port = tmp_path / "storescp.cfg", tmp_path / "inbox", free_port()
    inbox.mkdir()
    config.write_text(DCMTK_CONFIG.format(syntax=only))
    with storescp(port, "-xf", str(config), "Default", "-od", str(inbox)):
        peer = Peer(name="dcmtk", ae_title="STORESCP", host="127.0.0.1", port=port)
        assert all_done(send(peer, paths))
    got = {dcmread(path).SOPInstanceUID: path for path in inbox.iterdir()}
    assert len(got) == len(paths)
    for path in paths:
        source = dcmread(path)
        received = got[source.SOPInstanceUID]
        assert dcmread(received).file_meta.TransferSyntaxUID == only
        assert np.array_equal(read(received, program).pixel_array, source.pixel_array)


@pytest.mark.peer
@pytest.mark.parametrize("option", ["+x=", "+xi", "+xe", "+xb", "+xs", "+xv", "+xt", "+xr", "+xd", "+xa"])
def test_dcmtk_gets_the_same_pixels_whatever_it_prefers(tmp_path: Path, option: str) -> None:
    paths = ct_of_16_bits(tmp_path / "made")
    inbox, port = tmp_path / "inbox", free_port()
    inbox.mkdir()
    with storescp(port, option, "-od", str(inbox)):
        assert all_done(send(Peer(name="dcmtk", ae_title="STORESCP", host="127.0.0.1", port=port), paths))
    got = {one.SOPInstanceUID: one for one in map(dcmread, inbox.iterdir())}
    for path in paths:
        source = dcmread(path)
        assert np.array_equal(got[source.SOPInstanceUID].pixel_array, source.pixel_array)


@pytest.mark.peer
@pytest.mark.parametrize("takes_jpeg", [True, False])
def test_a_jpeg_lossless_image_of_dcmtk_is_passed_on_exactly(tmp_path: Path, takes_jpeg: bool) -> None:
    (path,) = write_ct_series(tmp_path, slices=1)
    stored = tmp_path / "stored.dcm"
    subprocess.run([dcmtk("dcmcjpeg"), "+e1", "+un", str(path), str(stored)], check=True, timeout=60)
    assert dcmread(stored).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    with archive([JPEGLosslessSV1, ExplicitVRLittleEndian] if takes_jpeg else [ImplicitVRLittleEndian]) as (peer, got):
        assert all_done(send(peer, [stored]))
    (received,) = got.values()
    if takes_jpeg:
        assert received.PixelData == dcmread(stored).PixelData
    else:
        assert received.PixelData == dcmread(path).PixelData
