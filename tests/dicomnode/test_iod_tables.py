"""The committed tables are those of the installed highdicom."""

import json

from dicomnode.iod_tables import IODS, TABLES_FILE, made_tables, tables


def test_the_committed_tables_are_what_the_command_makes() -> None:
    made = json.loads(json.dumps(made_tables()))
    committed = dict(tables())
    assert made.pop("made_from").startswith("highdicom")
    assert committed.pop("made_from").startswith("highdicom")
    assert committed == made


def test_the_tables_are_small_and_hold_every_module_of_every_object() -> None:
    assert TABLES_FILE.stat().st_size < 64_000
    for modality in IODS:
        assert {"patient", "general-study", "sop-common", "image-pixel"} <= tables()["iods"][modality].keys()
        assert tables()["iods"][modality].keys() <= tables()["modules"].keys()
