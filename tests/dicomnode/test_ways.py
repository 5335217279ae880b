"""Where a series goes is decided as routing decides it: same rules, same chains, and honest where nothing is known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomnode.config import Config
from dicomnode.follow import add_following, following_jobs
from dicomnode.rules import decides
from dicomnode.uids import MODEL_NAME
from dicomnode.urgency import priorities as urgencies
from dicomnode.ways import Decision, decide, decide_derived, keywords_of, path_in_words
from storage import catalog, jobs
from storage.database import Database
from storage.jobs import Job
from storage.received import Choice, Held, derived_headers, received_series
from tests.builders_routed import CHAIN, NOISE, NOW, config_of, derive, images, receive, route


def held(database: Database, series: str = "1.2.3") -> Held:
    return next(one for one in received_series(database, Choice()) if one.series.series_instance_uid == series)


def derived_of(database: Database, key: str) -> list[Held]:
    with database.read() as connection:
        return derived_headers(connection, key)


def decided(database: Database, config: Config, series: str = "1.2.3") -> Decision:
    return decide(
        config,
        held(database, series),
        derived=lambda key: derived_of(database, key),
        keywords=keywords_of(config.rules),
        now=NOW,
    )


def goes(decision: Decision) -> dict[str, tuple[str, ...]]:
    return {path_in_words(path): way.send_to for path, way in decision.ways.items()}


def test_a_series_goes_where_routing_sends_it(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path, NOISE + NOISE.replace('"noise"', '"hips"').replace('"CT"', '"MR"'))
    receive(database, "1.2.3", 3)
    decision = decided(database, config)
    made = route(database, config, "1.2.3")
    assert goes(decision) == {"ct_denoising": ("pacs",)} == {job.pipeline: job.destinations for job in made}
    assert [(one.rule.name, one.verdict.met) for one in decision.asked] == [("noise", True), ("hips", False)]


def test_a_localizer_beside_the_images_decides_nothing(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path, NOISE.replace('"CT"', '"CT" && KVP == 120.0'))
    receive(database, "1.2.3", 2, KVP=120.0)
    receive(database, "1.2.3", 3, KVP=80.0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert goes(decided(database, config)) == {"ct_denoising": ("pacs",)}


def test_the_same_work_for_two_rules_is_one_way_to_both_places_with_the_more_urgent_wish(
    database: Database, tmp_path: Path
) -> None:
    more = NOISE.replace('"noise"', '"urgent"').replace('["pacs"]', '["archive"]\npriority = "stat"')
    receive(database, "1.2.3")
    ((way),) = decided(database, config_of(tmp_path, NOISE + more)).ways.values()
    assert (way.send_to, way.priority, way.rules) == (("pacs", "archive"), "stat", ("noise", "urgent"))


def test_work_that_treats_the_series_otherwise_is_other_work(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    rules = NOISE + NOISE.replace('"noise"', '"split"') + 'mixed = "split"\n'
    assert goes(decided(database, config_of(tmp_path, rules))) == {
        "ct_denoising": ("pacs",),
        "ct_denoising (mixed = split)": ("pacs",),
    }


def test_what_follows_is_asked_of_what_was_derived_of_the_series(database: Database, tmp_path: Path) -> None:
    config = config_of(tmp_path, CHAIN)
    receive(database, "1.2.3")
    (job,) = route(database, config, "1.2.3")
    derive(database, job, "9.8", ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "MAR"])
    decision = decided(database, config)
    assert goes(decision) == {
        "ct_metal_artifact_reduction": (),
        "ct_metal_artifact_reduction, then ct_denoising": ("pacs",),
    }
    assert decision.unknown == {}


def test_where_nothing_was_derived_it_is_said_which_rules_cannot_be_asked(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    decision = decided(database, config_of(tmp_path, CHAIN))
    ((path, rules),) = decision.unknown.items()
    assert path_in_words(path) == "ct_metal_artifact_reduction" and [rule.name for rule in rules] == ["then noise"]


def test_work_done_with_other_settings_tells_nothing_of_what_follows(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3")
    (job,) = route(database, config_of(tmp_path, CHAIN), "1.2.3")
    derive(database, job, "9.8", ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "MAR"])
    config = config_of(tmp_path, CHAIN.replace('[[rules]]\nname = "then', 'mixed = "split"\n[[rules]]\nname = "then'))
    assert decided(database, config).unknown


def test_what_we_derived_ourselves_and_came_back_goes_nowhere(database: Database, tmp_path: Path) -> None:
    receive(database, "1.2.3", ManufacturerModelName=MODEL_NAME)
    decision = decided(database, config_of(tmp_path))
    assert decision.ways == {} and decision.asked == [] and "made by this kind of node" in decision.not_routed


def test_a_derived_series_is_asked_by_the_rules_after_those_that_asked_for_it(
    database: Database, tmp_path: Path
) -> None:
    config = config_of(tmp_path, CHAIN)
    receive(database, "1.2.3")
    (job,) = route(database, config, "1.2.3")
    derive(database, job, "9.8", ImageType=["DERIVED", "SECONDARY", "AXIAL", "", "MAR"])
    (made,) = derived_of(database, job.key)
    asked = decide_derived(config, made, made_by=job.rules, derived=lambda key: [], now=NOW)
    assert goes(asked) == {"ct_denoising": ("pacs",)}
    assert decide_derived(config, made, made_by=("then noise",), derived=lambda key: [], now=NOW).asked == []


TERMS = ['Modality == "CT"', 'Modality == "MR"', "KVP > 100.0", '"AXIAL" in ImageType', "KVP == 80.0 || KVP == 120.0"]
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "when": st.sampled_from(TERMS),
            "run": st.sampled_from(["", "ct_denoising", "ct_denoising", "ct_metal_artifact_reduction"]),
            "send_to": st.sampled_from([["pacs"], ["archive"], ["archive", "pacs"]]),
            "priority": st.sampled_from(["stat", "routine", "low"]),
            "stop": st.booleans(),
            "mixed": st.sampled_from(["refuse", "refuse", "split"]),
            "from": st.sampled_from([[], [], ["scanner"], ["archive"]]),
            "after": st.sampled_from([0, 0, 1, 2]),
        }
    ),
    min_size=1,
    max_size=6,
)
IMAGES = st.lists(
    st.fixed_dictionaries(
        {
            "Modality": st.sampled_from(["CT", "CT", "MR"]),
            "ImageType": st.sampled_from([["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "LOCALIZER"]]),
            "KVP": st.sampled_from([80.0, 120.0]),
        }
    ),
    min_size=1,
    max_size=3,
)


def as_toml(rules: list[dict[str, Any]]) -> str:
    """Rules of a file; one that comes after another names a received rule before it that runs something."""
    lines: list[str] = []
    running: list[int] = []
    for number, rule in enumerate(rules):
        after = running[-rule["after"]] if 0 < rule["after"] <= len(running) and rule["run"] else None
        lines += ["[[rules]]", f'name = "r{number}"', f"when = '{rule['when']}'", f'run = "{rule["run"]}"']
        if rule["run"]:
            lines += [f"send_to = {rule['send_to']}", f'priority = "{rule["priority"]}"', f'mixed = "{rule["mixed"]}"']
            lines += [f"stop = {str(rule['stop']).lower()}"]
            running.append(number)
        if after is not None:
            lines.append(f'after = "r{after}"')
        elif rule["from"]:
            lines.append(f"from = {rule['from']}")
    return "\n".join(lines)


def work_and_aims(made: Iterable[Job]) -> set[tuple[str, bool, frozenset[str], int]]:
    """What jobs come to: pipeline, whether mixed stacks are split, destinations, priority."""
    return {
        (one.pipeline, bool(one.handling.get("split_mixed")), frozenset(one.destinations), one.priority) for one in made
    }


def foretold(decision: Decision, steps: int) -> set[tuple[str, bool, frozenset[str], int]]:
    """The same of the ways that are so many pipelines long."""
    return {
        (
            path[-1].pipeline,
            ("mixed", "split") in path[-1].treated,
            frozenset(way.send_to),
            urgencies().index(way.priority),
        )
        for path, way in decision.ways.items()
        if len(path) == steps
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RULES, IMAGES, IMAGES)
def test_any_rules_send_any_series_where_routing_does(
    database: Database, tmp_path: Path, rules: list[dict[str, Any]], headers: list[Any], derived_headers: list[Any]
) -> None:
    config = config_of(tmp_path, as_toml(rules))
    with database.begin() as connection:
        series = f"1.2.{len(catalog.list_series(connection))}"
        catalog.add_instances(connection, [images(series, k + 1, **one)[k] for k, one in enumerate(headers)])
    before = decided(database, config, series)
    with database.read() as connection:
        routed = [jobs.get_job(connection, one) for one in {job.id for job in route(database, config, series)}]
    assert foretold(before, 1) == work_and_aims(routed)
    followed: list[Job] = []
    for place, job in enumerate(routed):
        made = derive(database, job, f"{series}.9.{place}", **derived_headers[0])
        if decides(made[0].header):  # of what stands beside images no rule is asked
            with database.begin() as connection:
                add_following(connection, job, made, following_jobs(job, made, config=config, now=NOW))
                followed += jobs.list_jobs(connection, series_instance_uid=made[0].series_instance_uid)
    after = decided(database, config, series)
    assert foretold(after, 1) == foretold(before, 1) and foretold(after, 2) == work_and_aims(followed)
