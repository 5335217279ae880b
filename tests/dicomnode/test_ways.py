"""Where a series goes is decided as routing decides it: same rules, same chains, and honest where nothing is known."""

from __future__ import annotations

from pathlib import Path

from dicomnode.config import Config
from dicomnode.uids import MODEL_NAME
from dicomnode.ways import Decision, decide, decide_derived, keywords_of, path_in_words
from storage.database import Database
from storage.received import Choice, Held, derived_headers, received_series
from tests.builders_routed import CHAIN, NOISE, NOW, config_of, derive, receive, route


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
