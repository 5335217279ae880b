"""Every kind of object that the node holds stays a valid one, and the objects of a study still agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.companions.banner import banner
from dicomnode.companions.key_image import key_images
from dicomnode.companions.parametric_map import change_map
from dicomnode.companions.report import measurement_report
from dicomnode.companions.segmentation import segmentation
from dicomnode.companions.text_report import text_report
from dicomnode.deidentify.burned_in import PixelPolicy
from dicomnode.deidentify.identity import elements_of
from dicomnode.deidentify.instance import Policy, deidentify
from dicomnode.deidentify.profile import Option
from dicomnode.deidentify.secret import Secret
from tests.builders_companions import derived_files, phantom_derivation, written
from tests.builders_enhanced import write_enhanced
from tests.validators import errors, inconsistent

BASIC = frozenset[Option]()
ALL = frozenset(Option) - {Option.UIDS, Option.FULL_DATES}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A CT series, what was derived of it, and every object beside it."""
    folder = tmp_path_factory.mktemp("study")
    derivation = phantom_derivation(folder / "source")
    mask = segmentation(derivation, mask_name="metal")
    assert mask is not None
    made = [mask, measurement_report(derivation, segmentations={"metal": mask}), text_report(derivation)]
    made += [one for one in (change_map(derivation), banner(derivation)) if one is not None]
    beside = written(folder / "beside", *made, *key_images(derivation))
    paths = [*sorted((folder / "source").glob("*.dcm")), *derived_files(folder / "derived", derivation), *beside]
    return {str(number): path for number, path in enumerate(paths)}


def deidentified(study: Mapping[str, Path], folder: Path, options: frozenset[Option]) -> Mapping[str, Path]:
    policy = Policy(options, Secret(b"k" * 32), PixelPolicy.UNKNOWN)
    made = {}
    for name, path in study.items():
        made[name] = folder / f"{name}.dcm"
        made[name].write_bytes(deidentify(path, policy).content)
    return made


@pytest.mark.parametrize("options", [BASIC, ALL], ids=["basic", "options"])
def test_a_study_with_all_its_objects_stays_valid_and_agrees(
    study: Mapping[str, Path], tmp_path: Path, options: frozenset[Option]
) -> None:
    made = deidentified(study, tmp_path, options)
    for name, path in made.items():
        assert set(errors(path)) <= set(errors(study[name]))
    assert inconsistent(list(made.values())) == []


def test_objects_still_refer_to_each_other_and_to_nothing_of_before(study: Mapping[str, Path], tmp_path: Path) -> None:
    made = deidentified(study, tmp_path, ALL)
    present = {str(dcmread(path).SOPInstanceUID) for path in made.values()}
    before = {str(dcmread(path).SOPInstanceUID) for path in study.values()}
    referred = {
        str(element.value)
        for path in made.values()
        for element in elements_of(dcmread(path))
        if element.keyword == "ReferencedSOPInstanceUID"
    }
    assert len(referred) > 5
    assert referred <= present
    assert not referred & before


def test_a_report_keeps_its_numbers_only_when_structured_content_is_cleaned(
    study: Mapping[str, Path], tmp_path: Path
) -> None:
    kinds: dict[frozenset[Option], set[str]] = {}
    for options in (BASIC, frozenset({Option.STRUCTURED})):
        (tmp_path / str(len(options))).mkdir()
        made = deidentified(study, tmp_path / str(len(options)), options)
        reports = [data for path in made.values() if (data := dcmread(path)).Modality == "SR"]
        assert reports
        kinds[options] = {
            str(one.value) for report in reports for one in elements_of(report) if one.keyword == "ValueType"
        }
    assert kinds[BASIC] == {"CONTAINER", "TEXT"}
    assert "NUM" in kinds[frozenset({Option.STRUCTURED})]
    assert not kinds[frozenset({Option.STRUCTURED})] & {"TEXT", "PNAME"}


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("options", [BASIC, ALL], ids=["basic", "options"])
def test_enhanced_objects_stay_valid(tmp_path: Path, modality: str, options: frozenset[Option]) -> None:
    source = write_enhanced(tmp_path / "source.dcm", modality)
    (made,) = deidentified({"made": source}, tmp_path, options).values()
    assert set(errors(made)) <= set(errors(source))
