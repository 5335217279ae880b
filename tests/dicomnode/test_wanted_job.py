"""The job that a rule asks for has a key that knows everything on which its result depends."""

from __future__ import annotations

from dicomnode.conditions import Outcome, TermVerdict
from dicomnode.rules import Verdict
from dicomnode.wanted_job import job_key, verdict_details
from inference.pipeline import build_pipeline


def test_a_verdict_is_audited_in_words_without_its_terms() -> None:
    verdict = Verdict("metal", True, False, "match", (TermVerdict("x", Outcome.MET, "y"),))
    assert verdict_details(verdict) == {"rule": "metal", "met": True, "reason": "match"}


def test_the_key_knows_everything_that_decides_the_result() -> None:
    card = build_pipeline("ct_denoising", {}).card
    key = job_key(card, {}, ["1.2", "1.3"])
    assert key == job_key(card, {}, ["1.3", "1.2"])
    split = job_key(card, {}, ["1.2", "1.3"], handling={"split_mixed": True})
    assert len({key, split, job_key(card, {"strength": 0.5}, ["1.2", "1.3"]), job_key(card, {}, ["1.2"])}) == 4
