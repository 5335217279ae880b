"""New rules are tried on what was received: what changes is named with its reason, what does not is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.replay import Kind, Replayed, Totals, replay
from storage.database import Database
from storage.received import Choice
from tests.builders_routed import CHAIN, NOISE, NOW, config_of, derive, receive, route


def replayed(database: Database, folder: Path, now: str, new: str) -> tuple[dict[str, Replayed], Totals]:
    (folder / "new").mkdir(exist_ok=True)
    totals = Totals()
    found = replay(
        database,
        Choice(),
        in_force=config_of(folder, now),
        new=config_of(folder / "new", new),
        totals=totals,
        now=NOW,
    )
    return {one.series.series_instance_uid: one for one in found}, totals


def test_the_same_rules_change_nothing(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    receive(database, "1.2.4", Modality="MR")
    found, totals = replayed(database, tmp_path, NOISE, NOISE)
    assert len(found) == totals.series == 2 and not totals.anything and not any(one.changes for one in found.values())


def test_a_narrower_rule_names_the_series_that_lose_it_and_the_term_that_is_not_met(
    database: Database, tmp_path: Path
) -> None:
    receive(database, "1.2.3", KVP=120.0)
    receive(database, "1.2.4", KVP=80.0)
    found, totals = replayed(database, tmp_path, NOISE, NOISE.replace('"CT"', '"CT" && KVP > 100.0'))
    assert found["1.2.3"].changes == ()
    (change,), (because,) = found["1.2.4"].changes, found["1.2.4"].because
    assert (change.kind, str(change)) == (Kind.ENDS, "- ct_denoising to pacs")
    assert because.now is not None and because.now.met and because.then is not None and not because.then.met
    assert [(term.text, term.outcome) for term in because.then.terms] == [
        ('Modality == "CT"', "met"),
        ("KVP > 100.0", "not met"),
    ]
    assert "KVP is 80" in because.then.terms[1].detail
    assert (totals.changed, totals.now["ct_denoising", "pacs"], totals.then["ct_denoising", "pacs"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('["pacs"]', '["pacs", "archive"]', "+ ct_denoising: also to archive"),
        ('["pacs"]', '["archive"]', "- ct_denoising: no longer to pacs\n+ ct_denoising: also to archive"),
        ('["pacs"]', '["pacs"]\npriority = "stat"', "~ ct_denoising: routine becomes stat"),
        (
            "ct_denoising",
            "ct_metal_artifact_reduction",
            "- ct_denoising to pacs\n+ ct_metal_artifact_reduction to pacs",
        ),
        ('"ct_denoising"\nsend_to = ["pacs"]', '""', "- ct_denoising to pacs"),
    ],
)
def test_every_kind_of_change_is_said(database: Database, tmp_path: Path, old: str, new: str, says: str) -> None:
    receive(database, "1.2.3")
    found, totals = replayed(database, tmp_path, NOISE, NOISE.replace(old, new))
    assert "\n".join(map(str, found["1.2.3"].changes)) == says and totals.changed == 1
    assert found["1.2.3"].because


def test_a_rule_that_now_stops_the_list_is_named_as_the_reason(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    second = NOISE.replace('"noise"', '"second"').replace("ct_denoising", "ct_metal_artifact_reduction")
    found, _ = replayed(database, tmp_path, NOISE + second, NOISE + "stop = true\n" + second)
    assert str(found["1.2.3"].changes[0]) == "- ct_metal_artifact_reduction to pacs"
    by_rule = {one.rule: one for one in found["1.2.3"].because}
    assert by_rule["second"].then is not None and 'rule "noise" stops the list' in by_rule["second"].then.reason


def test_another_name_for_the_same_rule_is_no_change_but_counted(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    found, totals = replayed(database, tmp_path, NOISE, NOISE.replace('"noise"', '"quiet"'))
    assert found["1.2.3"].changes == () and totals.otherwise == 1 and not totals.anything


def test_a_new_rule_after_another_is_asked_of_what_was_derived(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    first = CHAIN.partition('[[rules]]\nname = "then')[0] + 'send_to = ["pacs"]\n'
    (job,) = route(database, config_of(tmp_path, first), "1.2.3")
    derive(database, job, "9.8", ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "MAR"])
    chain = first + CHAIN[CHAIN.index('[[rules]]\nname = "then') :]
    found, totals = replayed(database, tmp_path, first, chain)
    (change,) = found["1.2.3"].changes
    assert str(change) == "+ ct_metal_artifact_reduction, then ct_denoising to pacs"
    assert totals.changed == 1 and not totals.uncertain
    assert found["1.2.3"].because[0].rule == "then noise" and found["1.2.3"].because[0].before


def test_where_nothing_was_derived_a_new_follower_is_uncertain_and_an_old_one_no_change(
    database: Database, tmp_path: Path
) -> None:
    receive(database, "1.2.3")
    found, totals = replayed(database, tmp_path, CHAIN, CHAIN)
    assert found["1.2.3"].changes == () and not totals.anything
    found, totals = replayed(database, tmp_path, CHAIN, CHAIN.replace('"MAR" in', '"X" in'))
    (change,) = found["1.2.3"].changes
    assert change.kind is Kind.UNKNOWN and "rule 'then noise'" in str(change)
    assert totals.uncertain == 1 and totals.changed == 0 and totals.anything


def test_series_that_change_alike_for_the_same_reason_are_one_kind(database: Database, tmp_path: Path) -> None:
    for number in range(5):
        receive(database, f"1.2.{number}", KVP=70.0 + number)
    receive(database, "1.3", KVP=70.0, Modality="MR")
    _, totals = replayed(database, tmp_path, NOISE, NOISE.replace('"CT"', '"CT" && KVP > 100.0'))
    ((group),) = totals.groups.values()
    assert group.count == 5 and group.example.series.series_instance_uid == "1.2.0"


def test_what_identifies_the_patient_is_in_no_word_of_it(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3", PatientID="SECRET-7")
    found, _ = replayed(database, tmp_path, NOISE, NOISE.replace('"CT"', '"CT" && PatientID == "other"'))
    assert found["1.2.3"].because and "SECRET-7" not in repr(found["1.2.3"])
