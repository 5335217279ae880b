"""Rules see what a series shares, are asked in their order, and say of each why or why not."""

from __future__ import annotations

from typing import Any

import pytest

from dicomnode.conditions import Outcome
from dicomnode.expressions import ConditionFault
from dicomnode.rules import Rule, SharedAttributes, decides, deciding_headers, match_rules, shared_attributes

CT_IMAGE, SR, SECONDARY = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.88.67",
    "1.2.840.10008.5.1.4.1.1.7",
)


def image(**values: Any) -> dict[str, Any]:
    return {"SOPClassUID": CT_IMAGE, "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], **values}


def rule(name: str, when: str = 'Modality == "CT"', run: str = "some_pipeline", **more: Any) -> Rule:
    return Rule(name, when, run, ("pacs",) if run else (), **more)


def test_a_rule_sees_what_all_instances_share() -> None:
    shared = shared_attributes([image(KVP=120.0, InstanceNumber=1), image(KVP=120.0, InstanceNumber=2)])
    assert shared.values["KVP"] == 120.0
    assert shared.differing == {"InstanceNumber"}


def test_an_attribute_that_one_instance_lacks_differs() -> None:
    assert shared_attributes([image(), image(KVP=120.0)]).differing == {"KVP"}
    assert shared_attributes([image(KVP=120.0), image()]).differing == {"KVP"}


@pytest.mark.parametrize(
    "stranger",
    [
        image(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], KVP=80.0),
        image(ImageType=["DERIVED", "SECONDARY", "SCOUT"]),
        {"SOPClassUID": SR, "Modality": "SR"},
        {"SOPClassUID": SECONDARY, "Modality": "CT"},
    ],
    ids=["localizer", "scout", "dose report", "screenshot"],
)
def test_localizers_and_reports_inside_a_series_do_not_decide(stranger: dict[str, Any]) -> None:
    for series in ([stranger, image(KVP=120.0)], [image(KVP=120.0), stranger]):
        shared = shared_attributes(series)
        assert shared.values == image(KVP=120.0)
        assert not shared.differing
    assert not decides(stranger)


def test_what_has_nothing_else_decides_for_itself() -> None:
    report = {"SOPClassUID": SR, "Modality": "SR"}
    assert deciding_headers([report]) == [report]
    assert shared_attributes([report]).values["Modality"] == "SR"


@pytest.mark.parametrize("last", ["2", "2.1", "2.3", "2.4", "4", "128", "481.1", "4.3"])
def test_images_of_every_kind_decide(last: str) -> None:
    assert decides({"SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{last}"})


def test_an_empty_series_shares_nothing() -> None:
    assert shared_attributes([]) == SharedAttributes({})


def test_a_missing_attribute_is_no_match_with_its_reason() -> None:
    when = 'Modality == "CT" && SeriesDescription.matches("(?i)metal")'
    (verdict,) = match_rules([rule("metal", when)], SharedAttributes(image()), peer="scanner")
    assert not verdict.met
    assert verdict.reason == "no match, because SeriesDescription is absent"
    assert [term.outcome for term in verdict.terms] == [Outcome.MET, Outcome.ABSENT]


def test_an_attribute_that_differs_is_no_match_with_its_reason() -> None:
    shared = shared_attributes([image(KVP=120.0), image(KVP=80.0)])
    (verdict,) = match_rules([rule("kvp", "KVP > 60")], shared, peer="scanner")
    assert (verdict.met, verdict.reason) == (False, "no match, because KVP differs between instances")


def test_several_rules_may_meet_one_series() -> None:
    verdicts = match_rules([rule("a"), rule("b"), rule("c", 'Modality == "MR"')], SharedAttributes(image()), peer="")
    assert [verdict.met for verdict in verdicts] == [True, True, False]
    assert verdicts[0].reason == 'match, because Modality == "CT" is met (Modality is "CT")'


def test_stop_on_a_met_rule_ends_the_list() -> None:
    rules = [rule("a", 'Modality == "MR"', stop=True), rule("b", stop=True), rule("c")]
    verdicts = match_rules(rules, SharedAttributes(image()), peer="")
    assert [verdict.met for verdict in verdicts] == [False, True, False]
    assert verdicts[2].reason == 'not reached: rule "b" stops the list'
    assert [term.outcome for term in verdicts[2].terms] == [Outcome.NOT_REACHED]


def test_a_hold_rule_keeps_the_series_out_of_every_later_rule() -> None:
    rules = [rule("before"), rule("QA", 'QualityControlImage == "YES"', run=""), rule("after")]
    verdicts = match_rules(rules, SharedAttributes(image(QualityControlImage="YES")), peer="")
    assert [(verdict.met, verdict.held) for verdict in verdicts] == [(True, False), (True, True), (False, False)]
    assert verdicts[1].reason.startswith("held back: match, because")
    assert verdicts[2].reason == 'not reached: rule "QA" holds the series back'


def test_a_hold_rule_that_is_not_met_holds_nothing() -> None:
    rules = [rule("QA", 'QualityControlImage == "YES"', run=""), rule("after")]
    verdicts = match_rules(rules, SharedAttributes(image()), peer="")
    assert [(verdict.met, verdict.held) for verdict in verdicts] == [(False, False), (True, False)]


def test_a_rule_for_one_peer_is_not_met_by_another() -> None:
    rules = [rule("a", from_peers=("scanner", "ct2"))]
    assert match_rules(rules, SharedAttributes(image()), peer="ct2")[0].met
    (verdict,) = match_rules(rules, SharedAttributes(image()), peer="pacs")
    assert not verdict.met
    assert verdict.reason == "no match, because it is for series from scanner or ct2, and this one came from pacs"
    assert verdict.terms[0].outcome is Outcome.NOT_MET


def test_a_verdict_never_says_who_the_patient_is() -> None:
    patient = image(PatientName="MUELLER^HANS", PatientID="4711")
    for when in ('PatientName.startsWith("MUELLER")', 'PatientID == "4712"'):
        (verdict,) = match_rules([rule("a", when)], SharedAttributes(patient), peer="")
        said = verdict.reason + "".join(term.text + term.detail for term in verdict.terms)
        assert not any(secret in said for secret in ("MUELLER", "HANS", "471"))


def test_a_rule_with_a_mistake_cannot_be_made() -> None:
    with pytest.raises(ConditionFault, match="Modalty"):
        rule("a", 'Modalty == "CT"')
