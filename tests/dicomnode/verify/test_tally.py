"""Of all answers to a rule the worst counts, and nothing asked is never a success."""

import pytest

from dicomnode.gate.rules import Finding
from dicomnode.verify.tally import RuleResult, Tally, Verdict, Verification

HOLDS, FAULT = Finding("C2", True, ""), Finding("C2", False, "PatientID is not the source's")


def verification(*rules: RuleResult, series: int = 1, missing: tuple[str, ...] = ()) -> Verification:
    listed = tuple((str(number), 4) for number in range(series))
    return Verification(("folder",), 8, listed, 0, 0, rules, missing, ())


def test_a_subject_misses_a_rule_once_and_the_first_is_named() -> None:
    tally = Tally()
    tally.add("1.2.1", [HOLDS, HOLDS])
    tally.add("1.2.2", [HOLDS, FAULT, FAULT])
    tally.add("1.2.2", [HOLDS])
    tally.add("1.2.3", [FAULT])
    (result,) = tally.results()
    assert (result.met, result.missed, result.not_asked, result.first_subject) == (1, 2, 0, "1.2.2")
    assert result.state == "missed" and "PatientID" in result.message


def test_not_asked_is_worse_than_met_and_better_than_missed() -> None:
    tally = Tally()
    tally.add("1.2.1", [HOLDS])
    tally.not_asked("1.2.1", ["C2"], "the source image is not there")
    (result,) = tally.results()
    assert (result.state, result.met, result.not_asked) == ("not asked", 0, 1)
    assert result.message == "the source image is not there"
    tally.add("1.2.1", [FAULT])
    assert tally.results()[0].state == "missed"


def test_rules_come_in_the_order_of_their_numbers() -> None:
    tally = Tally()
    tally.add("1.2", [Finding(rule, True, "") for rule in ("C10", "T1", "PASSPORT", "C2")])
    assert [result.rule for result in tally.results()] == ["C2", "C10", "PASSPORT", "T1"]


@pytest.mark.parametrize(
    ("given", "verdict", "exit_code"),
    [
        (verification(RuleResult("C1", 4, 0, 0)), Verdict.OK, 0),
        (verification(RuleResult("C1", 4, 1, 2)), Verdict.FAILED, 1),
        (verification(RuleResult("C1", 4, 0, 2)), Verdict.INCOMPLETE, 2),
        (verification(RuleResult("C1", 4, 0, 0), missing=("1.2.3",)), Verdict.INCOMPLETE, 2),
        (verification(series=0), Verdict.INCOMPLETE, 2),
    ],
)
def test_the_verdict_is_ok_only_when_all_was_asked_and_met(
    given: Verification, verdict: Verdict, exit_code: int
) -> None:
    assert (given.verdict, given.exit_code) == (verdict, exit_code)
