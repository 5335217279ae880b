"""A stored instance in another transfer syntax: its values exact and its texts byte for byte, or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import FileDataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.codecs import ENCODER_OF, decoded_frames
from dicomnode.errors import PeerRejected
from dicomnode.source_image import UNREADABLE
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnode.verbatim import TEXT_VRS, Element

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
OFFSET_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
COMPRESSIBLE_BITS = (8, 16)
COMPRESSIBLE_COLOURS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB")
BYTES_OF_WORD = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
SAME_IN_BOTH_ORDERS = TEXT_VRS | {"OB", "UN"}
LOSSY_METHOD = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.93": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Lossy transfer syntax -> Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""
ALWAYS_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""The others can hold what was compressed without loss, and then say 00."""


def compressible(path: Path) -> bool:
    """Whether the instance has pixels that our lossless encoders take."""
    header = dcmread(path, specific_tags=["BitsAllocated", "PhotometricInterpretation"], stop_before_pixels=True)
    # Bit-packed segments and float maps have other numbers of bits; documents have none.
    return (
        header.get("BitsAllocated") in COMPRESSIBLE_BITS
        and header.get("PhotometricInterpretation") in COMPRESSIBLE_COLOURS
    )


def recoded(path: Path, transfer_syntax_uid: str) -> bytes:
    """The stored instance as a Part 10 file in a transfer syntax; decoded again, its pixels are those of the file.

    Raises PeerRejected when that cannot be had: nothing may be sent then.
    """
    stored, target = dcmread(path), UID(transfer_syntax_uid)
    held = UID(stored.file_meta.TransferSyntaxUID)
    if held == target:
        return path.read_bytes()
    instance = f"instance {stored.file_meta.MediaStorageSOPInstanceUID}"
    try:
        written = _written(stored, held, target)
        made = dcmread(BytesIO(written))
        is_same = made.file_meta.TransferSyntaxUID == target and _holds_same_pixels(stored, made)
    except UNREADABLE as fault:
        why = f"{instance} cannot be recoded from {held.name} to {target.name} ({type(fault).__name__})"
        raise PeerRejected(why) from fault
    if not is_same:
        raise PeerRejected(
            f"{instance} has other pixels when recoded from {held.name} to {target.name}; it was not sent"
        )
    return written


def _written(stored: FileDataset, held: UID, target: UID) -> bytes:
    """The whole Part 10 file in the target syntax."""
    dataset = _in_little_endian(stored, implicit=target == ImplicitVRLittleEndian)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = stored.file_meta.MediaStorageSOPClassUID
    meta.MediaStorageSOPInstanceUID = stored.file_meta.MediaStorageSOPInstanceUID
    meta.TransferSyntaxUID = target
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    if held.is_encapsulated:
        _decode_pixels(dataset, stored, held)
    if target.is_encapsulated:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian  # what the pixels are in now, for the encoder
        if dataset.get("PlanarConfiguration") == 1:
            _decode_pixels(dataset, stored, held)
        dataset.compress(target, encoding_plugin=ENCODER_OF[target], generate_instance_uid=False)
    again = BytesIO()
    dcmwrite(again, dataset, enforce_file_format=True)
    return again.getvalue()


def _in_little_endian(source: Dataset, *, implicit: bool) -> Dataset:
    """The data set with the bytes of its values as they came, ready to be written; group lengths are left out.

    pydicom would decode every text and encode it anew, which damages what it cannot decode (K1, K2).
    """
    kept = {tag: _element(source, tag, implicit=implicit) for tag in sorted(source.keys()) if tag.element != 0}
    dataset = Dataset(kept)
    # Says that the values are encoded as they will be written: pydicom then passes their bytes on.
    dataset.set_original_encoding(implicit, True, dataset._character_set)
    return dataset


def _element(source: Dataset, tag: BaseTag, *, implicit: bool) -> Element:
    raw = source.get_item(tag)
    assert raw is not None
    vr = str(raw.VR) if raw.VR else _looked_up(source, tag)
    if vr == "SQ":
        items = [_in_little_endian(item, implicit=implicit) for item in source[tag].value or ()]
        return DataElement(tag, "SQ", DicomSequence(items))
    if not isinstance(raw, RawDataElement):
        return raw
    value = raw.value or b""
    if not raw.is_little_endian and vr not in SAME_IN_BOTH_ORDERS:
        if vr not in BYTES_OF_WORD:
            return source[tag]
        is_wide = tag == 0x7FE00010 and source.get("BitsAllocated") == 32
        word = f"u{4 if is_wide else BYTES_OF_WORD[vr]}"
        value = np.frombuffer(value, f">{word}").astype(f"<{word}").tobytes()
    if len(value) % 2:
        value += b" " if vr in TEXT_VRS - {"UI"} else b"\0"
    return RawDataElement(tag, vr, raw.length, value, 0, implicit, True)


def _looked_up(source: Dataset, tag: BaseTag) -> str:
    """The VR of an element that came without one (Implicit VR)."""
    if tag.is_private or not dictionary_has_tag(tag):
        try:
            return str(source[tag].VR)
        except UNREADABLE:
            return "UN"
    known = dictionary_VR(tag)
    return str(source[tag].VR) if " or " in known else known


def _decode_pixels(dataset: Dataset, stored: FileDataset, held: UID) -> None:
    """Replaces pixels by what they decode to, colour by pixel; what was lossy stays marked (C20)."""
    frames: list[bytes] = []
    properties: dict[str, Any] = {}
    for frame, found in decoded_frames(stored):
        properties = found
        frames.append(frame.astype(frame.dtype.newbyteorder("<"), copy=False).tobytes())
    content = b"".join(frames)
    compressed = len(stored.PixelData)
    dataset.PhotometricInterpretation = properties["photometric_interpretation"]
    if properties["samples_per_pixel"] > 1:
        dataset.PlanarConfiguration = properties["planar_configuration"]
    is_bytes = dataset.BitsAllocated <= 8
    dataset["PixelData"] = DataElement(0x7FE00010, "OB" if is_bytes else "OW", content + b"\0" * (len(content) % 2))
    for keyword in OFFSET_TABLES:
        if keyword in dataset:
            delattr(dataset, keyword)
    said = dataset.get("LossyImageCompression")
    if held in LOSSY_METHOD and said != "01" and (said != "00" or held in ALWAYS_LOSSY):
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = LOSSY_METHOD[held]
        dataset.LossyImageCompressionRatio = f"{len(content) / compressed:.2f}"


def _holds_same_pixels(stored: FileDataset, made: FileDataset) -> bool:
    """Whether both decode to the same words, also in the bits that no value uses."""
    keywords = [keyword for keyword in PIXELS if keyword in stored]
    if keywords != [keyword for keyword in PIXELS if keyword in made]:
        return False
    if not keywords:
        return True
    before, after = (UID(one.file_meta.TransferSyntaxUID) for one in (stored, made))
    if before.is_little_endian and not before.is_encapsulated and not after.is_encapsulated:
        return all(stored[keyword].value == made[keyword].value for keyword in keywords)
    frames = zip(decoded_frames(stored, all_bits=True), decoded_frames(made, all_bits=True), strict=True)
    return all(np.array_equal(one, other) for (one, _), (other, _) in frames)
