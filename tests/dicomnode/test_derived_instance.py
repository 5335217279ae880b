"""What the node hands on of an instance it has made."""

from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from dicomnode.derive import derive_series
from dicomnode.derived_instance import DerivedInstance
from dicomnode.load import load_volume
from inference.pipeline import Outcome
from tests.builders_dicom import card_for, job_facts, write_ct_series


def test_an_instance_says_of_itself_what_its_file_says(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path, slices=2))
    for made in derive_series(Outcome(source), card_for("CT"), images, job=job_facts()):
        dataset = dcmread(BytesIO(made.content))
        assert made.sop_instance_uid == dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
        assert (made.series_instance_uid, made.sop_class_uid) == (dataset.SeriesInstanceUID, dataset.SOPClassUID)
        assert made.transfer_syntax_uid == dataset.file_meta.TransferSyntaxUID


def test_nothing_is_cut_unless_it_is_said() -> None:
    assert DerivedInstance("1.2", "1.3", "1.4", "1.5", b"").clipped_voxels == 0
