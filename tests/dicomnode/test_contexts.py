"""One list of SOP classes and transfer syntaxes for what we accept and what we offer."""

from __future__ import annotations

import pytest
from pydicom.uid import UID, AllTransferSyntaxes

from dicomnode.contexts import (
    ACCEPTED_STORAGE,
    LOSSLESS_OF,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    accepted_contexts,
    offered_contexts,
    wanted_syntaxes,
)
from dicomnode.iods import SOP_CLASS_OF

EXPLICIT, IMPLICIT = UNCOMPRESSED
JPEG_LS, JPEG_2000, RLE = LOSSLESS_OF.values()
CT_IMAGE, MR_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
NEWER_THAN_PYDICOM = {f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("2.3", "2.4", "2.5", "66.7")}


def test_every_accepted_class_is_a_storage_class_in_use_and_listed_once() -> None:
    assert len(set(ACCEPTED_STORAGE)) == len(ACCEPTED_STORAGE)
    for uid in set(ACCEPTED_STORAGE) - NEWER_THAN_PYDICOM:
        assert UID(uid).name.endswith(("Storage", "Storage - For Processing")), uid
        assert not UID(uid).is_retired, uid


@pytest.mark.parametrize(
    "name",
    [
        "CT Image Storage",
        "Enhanced CT Image Storage",
        "Legacy Converted Enhanced CT Image Storage",
        "Positron Emission Tomography Image Storage",
        "Enhanced PET Image Storage",
        "Legacy Converted Enhanced PET Image Storage",
        "MR Image Storage",
        "Enhanced MR Image Storage",
        "Secondary Capture Image Storage",
        "Segmentation Storage",
        "Parametric Map Storage",
        "Comprehensive 3D SR Storage",
        "X-Ray Radiation Dose SR Storage",
        "Key Object Selection Document Storage",
        "Grayscale Softcopy Presentation State Storage",
        "RT Structure Set Storage",
        "RT Dose Storage",
    ],
)
def test_what_stands_in_a_study_is_accepted(name: str) -> None:
    assert name in {UID(uid).name for uid in ACCEPTED_STORAGE}


def test_every_kind_of_transfer_syntax_is_accepted() -> None:
    assert set(TRANSFER_SYNTAXES) <= set(AllTransferSyntaxes)
    names = {UID(uid).name for uid in TRANSFER_SYNTAXES}
    for kind in ("Implicit VR", "Big Endian", "Deflated", "RLE", "JPEG Lossless", "JPEG-LS", "JPEG 2000", "High-Thro"):
        assert any(kind in name for name in names), kind


def test_everything_listed_is_negotiated_as_acceptor() -> None:
    contexts = {context.abstract_syntax: context.transfer_syntax for context in accepted_contexts()}
    assert set(contexts) == {"1.2.840.10008.1.1", *ACCEPTED_STORAGE}
    assert contexts[CT_IMAGE] == list(TRANSFER_SYNTAXES)


def test_each_class_and_syntax_is_offered_in_a_context_of_its_own() -> None:
    pairs = {(CT_IMAGE, TRANSFER_SYNTAXES[0]), (CT_IMAGE, TRANSFER_SYNTAXES[8]), (MR_IMAGE, TRANSFER_SYNTAXES[0])}
    contexts = offered_contexts(pairs)
    assert {(context.abstract_syntax, *context.transfer_syntax) for context in contexts} == pairs
    again = [context.transfer_syntax for context in offered_contexts(sorted(pairs, reverse=True))]
    assert again == [context.transfer_syntax for context in contexts]


def test_more_than_one_association_can_offer_is_refused() -> None:
    pairs = [(sop_class, syntax) for sop_class in ACCEPTED_STORAGE for syntax in TRANSFER_SYNTAXES]
    assert len(offered_contexts(pairs[:128])) == 128
    with pytest.raises(ValueError, match="at most 128"):
        offered_contexts(pairs[:129])


def test_uncompressed_contexts_are_offered_before_compressed_ones() -> None:
    syntaxes = [(CT_IMAGE, syntax) for syntax in wanted_syntaxes(EXPLICIT, compressible=True)]
    offered = [context.transfer_syntax[0] for context in offered_contexts(syntaxes)]
    assert offered[:2] == [EXPLICIT, IMPLICIT] and set(offered[2:]) == {JPEG_LS, JPEG_2000, RLE}


def test_an_instance_leaves_as_stored_else_uncompressed_else_compressed() -> None:
    assert wanted_syntaxes(EXPLICIT, compressible=True) == (EXPLICIT, IMPLICIT, JPEG_LS, JPEG_2000, RLE)
    assert wanted_syntaxes(IMPLICIT, compressible=True) == (IMPLICIT, EXPLICIT, JPEG_LS, JPEG_2000, RLE)
    assert wanted_syntaxes(EXPLICIT, compressible=False) == (EXPLICIT, IMPLICIT)


def test_a_wish_for_compression_comes_first_where_pixels_can_be_compressed() -> None:
    wished = wanted_syntaxes(EXPLICIT, compressible=True, compression="rle")
    assert wished == (RLE, EXPLICIT, IMPLICIT, JPEG_LS, JPEG_2000)
    assert wanted_syntaxes(EXPLICIT, compressible=False, compression="rle") == (EXPLICIT, IMPLICIT)


@pytest.mark.parametrize("stored", [syntax for syntax in TRANSFER_SYNTAXES if UID(syntax).is_encapsulated])
def test_what_is_stored_compressed_is_never_compressed_anew(stored: str) -> None:
    assert wanted_syntaxes(stored, compressible=True, compression="jpeg-ls") == (stored, EXPLICIT, IMPLICIT)


def test_the_objects_of_one_job_fit_one_association_whatever_the_peer_wishes() -> None:
    beside = ("66.4", "30", "88.33", "88.34", "88.22", "7", "88.59", "11.1")
    classes = {*SOP_CLASS_OF.values(), *(f"1.2.840.10008.5.1.4.1.1.{last}" for last in beside)}
    pairs = {
        (sop_class, syntax)
        for sop_class in classes
        for compression in ("none", *LOSSLESS_OF)
        for syntax in wanted_syntaxes(EXPLICIT, compressible=True, compression=compression)
    }
    assert len(offered_contexts(pairs)) == len(classes) * 5 <= 128
