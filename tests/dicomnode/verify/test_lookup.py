"""Images are found by UID and frame, and two places are told apart by a word."""

from dataclasses import replace
from pathlib import Path

from dicomnode.verify.files import found_files
from dicomnode.verify.lookup import Lookup, Place
from dicomnode.verify.tally import Tally
from tests.builders_companions import derived_files, phantom_derivation
from tests.builders_enhanced import write_enhanced

HERE = Place("1.2", (0.0, 0.0, 5.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), (64, 64))


def test_two_places_differ_in_a_word_or_not_at_all() -> None:
    assert HERE.misses(replace(HERE, position=(0.001, 0.0, 5.0), orientation=(1.0, 0.001, 0, 0, 1, 0))) == ""
    for word, other in (
        ("frame of reference", replace(HERE, frame_of_reference_uid="1.3")),
        ("matrix", replace(HERE, size=(64, 63))),
        ("position", replace(HERE, position=(0.0, 0.0, 6.0))),
        ("position", replace(HERE, position=())),
        ("orientation", replace(HERE, orientation=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0))),
        ("spacing", replace(HERE, spacing=(1.0, 1.1))),
    ):
        assert HERE.misses(other) == word == other.misses(HERE)


def test_sources_frames_and_derived_images_are_found(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "source")
    derived_files(tmp_path / "derived", derivation)
    write_enhanced(tmp_path / "frames.dcm", "CT", slices=3)
    found = found_files([tmp_path])
    lookup = Lookup(found, Tally())
    source, derived = derivation.images[1].sop_instance_uid, str(derivation.derived[1].SOPInstanceUID)
    image = lookup.source(source)
    assert image is not None and image.sop_instance_uid == source
    assert lookup.place(source) == lookup.place(derived) is not None
    assert lookup.derived(source) is None and lookup.derived(derived) is not None
    (frames,) = [one.sop_instance_uid for one in found.instances.values() if one.path.name == "frames.dcm"]
    second = lookup.source(f"{frames} 2")
    assert second is not None and second.frame == 2 and lookup.place(f"{frames} 2") != lookup.place(f"{frames} 3")
    assert lookup.source("9.9") is None and lookup.place("9.8") is None and list(lookup.missing) == ["9.9"]


def test_a_source_that_cannot_be_read_is_one_finding(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "source", slices=2)
    found = found_files([tmp_path])
    path = found.instances[derivation.images[0].sop_instance_uid].path
    path.write_bytes(b"no DICOM at all")
    tally = Tally()
    lookup = Lookup(found, tally)
    assert lookup.images_of(path) == lookup.images_of(path) == []
    assert [(rule.rule, rule.missed) for rule in tally.results()] == [("READ", 1)]
