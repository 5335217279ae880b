"""What the node hands on of an instance it has made."""

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.derive import derive_series
from dicomnode.derived_instance import DerivedInstance
from dicomnode.fingerprints import header_sha256, pixel_sha256
from dicomnode.headers import header_values
from dicomnode.load import load_volume
from inference.pipeline import Outcome
from tests.builders_dicom import card_for, job_facts, write_ct_series, write_mr_series, write_pet_series


def test_an_instance_says_of_itself_what_its_file_says(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path, slices=2))
    for made in derive_series(Outcome(source), card_for("CT"), images, job=job_facts()):
        dataset = dcmread(BytesIO(made.content))
        assert made.sop_instance_uid == dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
        assert (made.series_instance_uid, made.sop_class_uid) == (dataset.SeriesInstanceUID, dataset.SOPClassUID)
        assert made.transfer_syntax_uid == dataset.file_meta.TransferSyntaxUID


@pytest.mark.parametrize(
    ("kind", "write"), [("CT", write_ct_series), ("PT", write_pet_series), ("MR", write_mr_series)]
)
def test_what_the_gate_has_read_of_each_file_is_what_the_file_says(
    tmp_path: Path, kind: str, write: Callable[..., list[Path]]
) -> None:
    source, images = load_volume(write(tmp_path, slices=4, PatientName="M\u00fcller^X", StudyDescription="odd"))
    for made in derive_series(Outcome(source), card_for(kind), images, job=job_facts()):
        described = made.described
        assert described is not None
        assert described.header == header_values(dcmread(BytesIO(made.content)))
        assert described.header_sha256 == header_sha256(dcmread(BytesIO(made.content)))
        pixels = made.content[-described.pixel_bytes :]
        assert sha256(pixels).hexdigest() == pixel_sha256(dcmread(BytesIO(made.content)))


def test_nothing_is_cut_unless_it_is_said() -> None:
    assert DerivedInstance("1.2", "1.3", "1.4", "1.5", b"").clipped_voxels == 0
