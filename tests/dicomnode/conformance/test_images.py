"""What the statement says of an attribute is what a derived image does: asked of images that were really derived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from dicomnode import iods
from dicomnode.conformance.images import COLUMNS, Given, given, how_made, image_sections
from dicomnode.conformance.made import MADE, MADE_OF
from dicomnode.iod_tables import tables
from tests.builders_dicom import card_for, derived_datasets, write_ct_series, write_mr_series, write_pet_series

WRITERS: dict[str, Callable[..., list[Path]]] = {"CT": write_ct_series, "PT": write_pet_series, "MR": write_mr_series}
BESIDE = iods.EARLIER_EDITIONS | iods.MR_EXTENDED


RICH: dict[str, Any] = {
    "PerformedProcedureStepID": "1",
    "OperatorsName": "O",
    "Laterality": "L",
    "BodyPartExamined": "KNEE",
    "EthnicGroup": "x",
    "IrradiationEventUID": "1.2.3",
    "AccessionNumber": "7",
    "SmallestImagePixelValue": 0,
    "WindowCenter": "40",
    "WindowWidth": "400",
    "FrameTime": "3",
    "TriggerTime": "5",
    "StudyComments": "words",
}
"""What senders write and a derived image must not, or only on a condition."""


def pairs(folder: Path, source: str, target: str) -> list[tuple[Dataset, Dataset]]:
    files = WRITERS[source](folder, slices=3, **RICH)
    card = card_for(source, to="" if source == target else target)
    derived = derived_datasets(files, card)
    sources = {str(one.SOPInstanceUID): one for one in map(dcmread, files)}
    return [(sources[str(one.SourceImageSequence[0].ReferencedSOPInstanceUID)], one) for one in derived]


@pytest.mark.parametrize(("source", "target"), [*COLUMNS, ("MR", "CT")])
def test_every_attribute_of_a_derived_image_is_as_the_statement_says(tmp_path: Path, source: str, target: str) -> None:
    for original, made in pairs(tmp_path, source, target):
        listed = {keyword for module in tables()["iods"][target] for keyword in tables()["modules"][module]}
        for element in made:
            if element.tag.is_private:
                continue
            keyword = keyword_for_tag(element.tag)
            assert keyword in listed | BESIDE, f"{keyword} is in no table of the statement"
            says = given(keyword, source, target)
            assert says is not Given.NEVER, f"{keyword} is written, and the statement says it is not"
            if says is Given.EMPTY:
                assert not element.value, keyword
            if says in (Given.SOURCE, Given.ON_A_CONDITION, Given.SOURCE_OR_EMPTY):
                assert element.value == original.get(keyword, element.value), keyword
        for keyword in listed:
            says = given(keyword, source, target)
            if says is Given.SOURCE and original.get(keyword):
                assert keyword in made, f"{keyword} is not copied, and the statement says it is"
            if says in (Given.SOURCE_OR_EMPTY, Given.EMPTY):
                uses = tables()["iods"][target].items()
                in_mandatory = any(keyword in tables()["modules"][one] for one, use in uses if use[0] == "M")
                assert keyword in made or not in_mandatory, f"{keyword} is not there, not even empty"


def test_what_is_always_made_is_there(tmp_path: Path) -> None:
    sometimes = {"StationName", "UDISequence", "SyntheticData", "SpecificCharacterSet", "WindowCenterWidthExplanation"}
    sometimes |= {"VOILUTFunction", "Laterality", "WindowCenter", "WindowWidth"}
    for source, target in COLUMNS:
        _, made = pairs(tmp_path / f"{source}{target}", source, target)[0]
        assert not [keyword for keyword in MADE if keyword not in sometimes and keyword not in made]


def test_everything_that_is_not_copied_is_said_how(tmp_path: Path) -> None:
    assert not iods.MADE - {*MADE, *MADE_OF}
    for keyword in iods.MADE:
        assert any(how_made(keyword, target) for target in ("CT", "PT", "MR"))


def test_every_attribute_of_every_module_is_told() -> None:
    text = image_sections()
    for module in {name for iod in tables()["iods"].values() for name in iod}:
        for keyword in tables()["modules"][module]:
            assert keyword in text
