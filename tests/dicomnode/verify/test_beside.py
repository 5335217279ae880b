"""What stands beside a derived series is held against that series, its sources and no other."""

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.gate.series_rules import Members
from dicomnode.verify.beside import Beside, made_by
from dicomnode.verify.files import found_files
from dicomnode.verify.lookup import Lookup
from dicomnode.verify.tally import Tally
from tests.builders_companions import phantom_derivation
from tests.builders_passports import write_all


def asked(folder: Path, *, change: str = "", unchanged: bool = True) -> dict[str, str]:
    """The state of each rule after the objects beside the derived series were asked; `change`: of the model's words."""
    derivation = phantom_derivation(folder / "source")
    write_all(folder, derivation, ["segmentation", "change_map"])
    tally = Tally()
    found = found_files([folder])
    beside = Beside(Lookup(found, tally))
    members = Members.of(derivation.derived).all
    by = made_by(derivation.derived[0]) + change
    known = {member.uid: unchanged and number in (0, 3) for number, member in enumerate(members)}
    beside.remember(str(derivation.derived[0].SeriesInstanceUID), by, members, known)
    for one in found.ours():
        if not one.is_derived_image:
            assert beside.ask(one) == []
    beside.ask_changes()
    return {rule.rule: rule.state for rule in tally.results()}


def test_its_own_series_answers_for_an_object(tmp_path: Path) -> None:
    states = asked(tmp_path)
    assert set(states.values()) == {"met"} and {"C2", "C14", "C21", "C22", "C23", "S1", "S3"} <= set(states)


def test_the_series_of_another_job_does_not(tmp_path: Path) -> None:
    states = asked(tmp_path, change=" another job")
    assert [states[rule] for rule in ("C2", "C22", "C23", "S1")] == ["not asked", "not asked", "not asked", "met"]


def test_s3_a_change_that_no_map_says_is_found(tmp_path: Path) -> None:
    assert asked(tmp_path, unchanged=False)["S3"] == "missed"


def test_what_has_no_model_was_made_by_nobody_we_know(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path)
    assert made_by(Dataset()) == "" and "method none" in made_by(derivation.derived[0])
    assert dcmread(derivation.images[0].path).Manufacturer == "Maker"
