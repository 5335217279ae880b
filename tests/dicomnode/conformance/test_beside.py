"""Every attribute of the objects beside a derived series is in the statement: asked of objects that were made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.datadict import keyword_for_tag

from dicomnode.companions.companions import COMPANIONS, derive_companions
from dicomnode.companions.harmonise import MODALITY_OF
from dicomnode.conformance.beside import OWN, TEXT, WORDS, attributes_of, beside_sections, subject_keywords
from tests.builders_companions import phantom_derivation, read

SOMETIMES = {
    "BurnedInAnnotation",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ContentCreatorName",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "PresentationLUTShape",
    "AcquisitionContextSequence",
}


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_objects_hold_what_the_statement_says_and_nothing_else(tmp_path: Path, modality: str) -> None:
    derivation = phantom_derivation(tmp_path, modality)
    for companion in derive_companions(COMPANIONS, derivation):
        for instance in companion.instances:
            made, told = read(instance), attributes_of(instance.sop_class_uid)
            found = {keyword_for_tag(element.tag) for element in made}
            assert found <= {*told, *subject_keywords()}, companion.name
            own = OWN.get(instance.sop_class_uid, OWN["1.2.840.10008.5.1.4.1.1.88.34"])
            assert {*own} - SOMETIMES <= found, companion.name
            for keyword in found & {*own}:
                if re.fullmatch("[A-Z0-9_]+", own[keyword]):
                    assert str(made[keyword].value) == own[keyword], keyword


def test_every_class_of_object_is_told() -> None:
    assert {*WORDS} == {*map(str, MODALITY_OF)} and {*OWN, TEXT} == {*WORDS}
    assert all(words in beside_sections() for words in WORDS.values())
