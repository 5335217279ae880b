"""Of one series all is told: what it holds, why it is whole, what rules say and said, and what was made of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dicomnode.config import Config
from dicomnode.errors import NodeFault
from dicomnode.explain import Explanation, explain_series
from storage.database import Database
from storage.ledger import LedgerState, Result, record_results
from tests.builders_routed import CHAIN, NOISE, NOW, config_of, derive, receive, route


def explained(database: Database, config: Config, series: str = "1.2.3", *, after_s: float = 2.0) -> Explanation:
    with database.read() as connection:
        return explain_series(connection, config, series, now=NOW + timedelta(seconds=after_s))


def test_a_series_that_is_not_whole_says_what_it_waits_for(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3", 3, ImagesInAcquisition=5, AcquisitionNumber=1)
    found = explained(database, config_of(tmp_path))
    assert "not whole yet: 3 images are here, ImagesInAcquisition announces 5" in found.whole
    assert "the last came 2 s ago, after 5 s it counts as whole" in found.whole
    assert found.then == () and found.work == () and [one.verdict.met for one in found.now.asked] == [True]


def test_what_it_holds_is_told_apart_by_what_rules_look_at(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3", 2)
    receive(database, "1.2.3", 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    images, localizers = sorted(explained(database, config_of(tmp_path)).contents, key=lambda one: not one.decide)
    assert (images.count, images.decide, images.sop_class, images.size_bytes) == (2, True, "CT Image Storage", 1000)
    assert (localizers.count, localizers.decide, localizers.transfer_syntax) == (1, False, "Explicit VR Little Endian")


def test_what_was_decided_then_stands_beside_what_the_rules_say_now(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3", KVP=80.0)
    route(database, config_of(tmp_path), "1.2.3")
    changed = config_of(tmp_path, NOISE.replace('"CT"', '"CT" && KVP > 100.0') + NOISE.replace('"noise"', '"new"'))
    found = explained(database, changed)
    assert found.whole == "nothing came for 5 s"
    (then,) = found.then
    assert [(one["rule"], one["met"]) for one in then.rules] == [("noise", True)] and then.generation == 1
    assert sorted(then.differs) == ["new", "noise"]
    noise = found.now.asked[0].verdict
    assert [(term.text, str(term.outcome)) for term in noise.terms][1] == ("KVP > 100.0", "not met")


def test_every_generation_that_was_routed_is_told(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    receive(database, "1.2.3", 2)
    route(database, config, "1.2.3")
    receive(database, "1.2.3", 3)
    route(database, config, "1.2.3")
    found = explained(database, config)
    assert [one.generation for one in found.then] == [1, 2] and not any(one.differs for one in found.then)
    assert len(found.work) == 2 and found.events["series closed"] == 2


def test_jobs_come_with_what_they_made_and_how_each_instance_stands(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    receive(database, "1.2.3")
    (job,) = route(database, config, "1.2.3")
    first, _ = derive(database, job, "9.8")
    with database.begin() as connection:
        done = [Result(first.sop_instance_uid, LedgerState.DONE, 0)]
        record_results(connection, job.id, "pacs", done, NOW)
    (work,) = explained(database, config).work
    ((delivery, counts),) = work.sent
    assert work.made == ("9.8",) and delivery.destination == "pacs"
    assert counts == {LedgerState.DONE: 1, LedgerState.WAITING: 1}


def test_a_derived_series_names_its_job_and_the_rules_that_come_after(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path, CHAIN)
    receive(database, "1.2.3")
    (job,) = route(database, config, "1.2.3")
    derive(database, job, "9.8", ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "MAR"])
    found = explained(database, config, "9.8")
    assert [one.id for one in found.made_by] == [job.id] and found.series is not None
    assert [(one.rule.name, one.verdict.met) for one in found.now.asked] == [("then noise", True)]
    source = explained(database, config)
    assert [(bool(one.before), one.rule.name) for one in source.now.asked] == [(False, "metal"), (True, "then noise")]


def test_a_derived_series_after_which_no_rule_comes_says_so(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    receive(database, "1.2.3")
    (job,) = route(database, config, "1.2.3")
    derive(database, job, "9.8")
    assert explained(database, config, "9.8").now.not_routed == "derived for 'noise', and no rule comes after that"


def test_a_series_of_which_nothing_is_known_is_named(database: Database, tmp_path: Path) -> None:
    with pytest.raises(NodeFault, match=r"nothing is known of series 9\.9"):
        explained(database, config_of(tmp_path), "9.9")
