"""A de-identified instance says that it is one, also when it was one before."""

from pydicom.dataset import Dataset

from dicomnode.deidentify.marks import mark
from dicomnode.deidentify.profile import Option
from tests.builders_dicom import code


def test_earlier_de_identification_stays_named_by_codes_only() -> None:
    dataset = Dataset()
    dataset.DeidentificationMethod = "by Huldrych Zwingli"
    dataset.DeidentificationMethodCodeSequence = [
        code("113100", "DCM", "Basic Application Confidentiality Profile"),
        code("113101", "DCM", "Clean Pixel Data Option"),
        code("X1", "99ZWINGLI", "by hand"),
    ]
    mark(dataset, pseudonym="P1", options=frozenset({Option.SAFE_PRIVATE}))
    assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100", "113111", "113101"]
    assert "Zwingli" not in str(dataset)
    assert dataset.PatientIdentityRemoved == "YES"


def test_dates_are_said_to_be_removed_moved_or_kept() -> None:
    said = {}
    for option in (None, Option.FULL_DATES, Option.MODIFIED_DATES):
        dataset = Dataset()
        mark(dataset, pseudonym="P1", options=frozenset({option} if option else ()))
        said[option] = dataset.LongitudinalTemporalInformationModified
    assert said == {None: "REMOVED", Option.FULL_DATES: "UNMODIFIED", Option.MODIFIED_DATES: "MODIFIED"}
