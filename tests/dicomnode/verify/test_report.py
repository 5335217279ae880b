"""A verification is readable for a person and for a script."""

import json
from io import StringIO

from rich.console import Console

from dicomnode.verify.report import RULES, verification_as_json, verification_table
from dicomnode.verify.tally import RuleResult, Verification

RESULTS = (RuleResult("C2", 3, 1, 0, "1.2.3", "PatientID is [not] the source's"), RuleResult("C5", 4, 0, 0))
FAILED = Verification(("folder",), 8, (("1.2", 4),), 2, 1, RESULTS, (), ("a note",))


def printed(verification: Verification) -> str:
    console = Console(width=200, file=StringIO(), record=True)
    console.print(verification_table(verification))
    return console.export_text()


def test_the_table_names_verdict_rule_instance_and_sentence() -> None:
    text = printed(FAILED)
    for words in ("FAILED", "C2", "1.2.3: PatientID is [not] the source's", "1 derived series, 4 images", "a note"):
        assert words in text


def test_a_missing_source_and_an_empty_folder_are_said_in_words() -> None:
    missing = Verification(("folder",), 4, (("1.2", 4),), 0, 0, (RuleResult("C2", 0, 0, 4, "", "why"),), ("1.9",), ())
    assert "INCOMPLETE" in printed(missing) and "e.g. 1.9" in printed(missing) and "why" in printed(missing)
    assert "no derived series" in printed(Verification(("folder",), 0, (), 0, 0, (), (), ()))


def test_json_holds_the_same() -> None:
    made = json.loads(verification_as_json(FAILED))
    assert (made["verdict"], made["exit_code"], made["files"]) == ("FAILED", 1, 8)
    assert made["series"] == [{"series_instance_uid": "1.2", "images": 4}]
    assert made["rules"][0]["state"] == "missed" and made["rules"][0]["first_subject"] == "1.2.3"


def test_every_rule_has_its_words() -> None:
    wanted = {f"C{number}" for number in range(1, 30)} | {"U2", "U4", "U6", "PASSPORT", "READ", "K1", "S5"}
    assert wanted <= set(RULES) and all(RULES.values())
