"""What an object must hold is what the standard's module tables say."""

import json

from dicomnode.deidentify.required import REQUIRED_FILE, made_table, needed_of, table

CT, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.128"


def test_the_committed_table_is_what_the_command_makes() -> None:
    made = json.loads(json.dumps(made_table()))
    committed = dict(table())
    assert made.pop("made_from").startswith("highdicom")
    assert committed.pop("made_from").startswith("highdicom")
    assert committed == made
    assert REQUIRED_FILE.stat().st_size < 80_000


def test_a_pet_image_needs_its_series_date_and_a_ct_image_does_not() -> None:
    assert needed_of("SeriesDate", sop_class_uid=PET, at_root=True) == "D"
    assert needed_of("SeriesDate", sop_class_uid=CT, at_root=True) == "X"
    assert needed_of("AcquisitionDate", sop_class_uid=PET, at_root=True) == "Z"


def test_what_is_removed_elsewhere_stays_as_a_dummy_where_the_object_needs_it() -> None:
    presentation, enhanced_pet = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.130"
    assert needed_of("PresentationCreationDate", sop_class_uid=presentation, at_root=True) == "D"
    assert needed_of("RadiopharmaceuticalStartDateTime", sop_class_uid=enhanced_pet, at_root=False) == "D"
    assert needed_of("PresentationCreationDate", sop_class_uid=CT, at_root=True) == "X"
    assert needed_of("PatientAge", sop_class_uid="1.2.3", at_root=True) == "X"


def test_in_items_and_in_unknown_objects_nothing_is_left_out() -> None:
    assert needed_of("SeriesDate", sop_class_uid=CT, at_root=False) == "D"
    assert needed_of("SeriesDate", sop_class_uid="1.2.3", at_root=True) == "D"
