"""What is kept, removed and made anew, attribute by attribute."""

import pytest
from pydicom.datadict import keyword_for_tag

from dicomnode.iods import (
    CONTRIBUTING_EQUIPMENT,
    HISTORY,
    MADE,
    MR_EXTENDED,
    PET_CONDITIONS,
    REMOVED,
    is_unpaired,
    kept_tags,
    tags,
    type_two_tags,
)


def kept_keywords(source: str, target: str) -> set[str]:
    of_series, of_image = kept_tags(source, target)
    assert not of_series & of_image
    return {keyword_for_tag(tag) for tag in of_series | of_image}


@pytest.mark.parametrize("words", [MADE, MR_EXTENDED, HISTORY, CONTRIBUTING_EQUIPMENT, frozenset(PET_CONDITIONS)])
def test_every_attribute_named_is_in_the_dictionary(words: frozenset[str]) -> None:
    assert len(tags(words)) == len(words)


def test_an_attribute_that_is_not_in_the_dictionary_is_named() -> None:
    with pytest.raises(KeyError, match="PatientIdd"):
        tags(["PatientIdd"])


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_c25_nothing_removed_or_made_anew_is_copied(modality: str) -> None:
    kept = kept_keywords(modality, modality)
    assert not kept & (MADE | REMOVED)
    assert not kept & {"PixelData", "OverlayData", "IconImageSequence", "OperatorsName", "SmallestImagePixelValue"}


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_c2_patient_and_study_are_copied_whole(modality: str) -> None:
    wanted = """PatientName PatientID IssuerOfPatientID OtherPatientIDs EthnicGroup PatientBirthDate PatientSex
    PatientAge PatientWeight StudyInstanceUID StudyDate StudyID AccessionNumber ClinicalTrialSubjectID"""
    assert set(wanted.split()) <= kept_keywords(modality, modality)


def test_t2_a_ct_keeps_its_acquisition_and_t3_a_synthetic_ct_has_none() -> None:
    acquisition = {"KVP", "ConvolutionKernel", "Exposure", "CTDIvol", "FilterType", "IrradiationEventUID"}
    assert acquisition <= kept_keywords("CT", "CT")
    for source in ("PT", "MR"):
        assert not kept_keywords(source, "CT") & (acquisition | {"AcquisitionNumber", "EchoTime", "Units", "FlipAngle"})
        assert {"ImagePositionPatient", "FrameOfReferenceUID", "AcquisitionTime"} <= kept_keywords(source, "CT")


def test_p1_a_pet_keeps_the_time_base_that_its_decay_correction_counts_from_and_a_ct_does_not() -> None:
    assert {"SeriesDate", "SeriesTime", "DecayFactor", "FrameReferenceTime"} <= kept_keywords("PT", "PT")
    assert not {"SeriesDate", "SeriesTime"} & kept_keywords("CT", "CT")


def test_p4_the_counts_of_time_frames_are_those_of_the_kind_of_series() -> None:
    assert PET_CONDITIONS["NumberOfTimeSlices"] == ("DYNAMIC",)
    assert {keyword for keyword, kinds in PET_CONDITIONS.items() if kinds == ("GATED",)} == {
        "NumberOfRRIntervals",
        "NumberOfTimeSlots",
        "FrameTime",
        "TriggerTime",
    }
    counted = {"NumberOfTimeSlices", "NumberOfRRIntervals", "NumberOfTimeSlots", "TriggerTime", "FrameTime"}
    assert counted <= kept_keywords("PT", "PT") and not counted & kept_keywords("PT", "CT")


def test_attributes_that_may_be_empty_but_not_absent_are_known() -> None:
    assert tags(["KVP", "AcquisitionNumber", "PatientName", "StudyID"]) <= type_two_tags("CT")


def test_a_chest_has_no_sides_and_an_extremity_has() -> None:
    assert is_unpaired("CHEST") and not is_unpaired("EXTREMITY") and not is_unpaired("")
