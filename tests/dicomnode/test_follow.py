"""A derived series becomes the source of the rules that follow the one that made it, and of no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.follow import following_jobs
from storage import jobs
from storage.catalog import Instance
from storage.database import Database
from storage.jobs import Job, NewJob

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NODE = '[node]\n[peers.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
RULES = """
[[rules]]
name = "metal"
when = 'Modality == "CT"'
run = "ct_metal_artifact_reduction"
[[rules]]
name = "quieter"
after = "metal"
when = '"MAR" in ImageType'
run = "ct_denoising"
send_to = ["pacs"]
priority = "low"
[[rules]]
name = "of something else"
after = "quieter"
when = 'Modality == "CT"'
run = "ct_denoising"
send_to = ["pacs"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "node.toml").write_text(NODE)
    (tmp_path / "config" / "rules.toml").write_text(RULES)
    return load_config(tmp_path / "config")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    new = NewJob("k", "1.2.3", "1.2", 4, "metal", "ct_metal_artifact_reduction", "1", {}, ("1.2.3.1",), 0, (), NOW)
    with database.begin() as connection:
        return jobs.add_job(connection, new)[0]


def images(*image_type: str) -> list[Instance]:
    header = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "ImageType": list(image_type)}
    return [
        Instance(f"2.25.{k}", header["SOPClassUID"], "1.2.840.10008.1.2.1", "2.25.9", "1.2", "", NOW, "", 1, header)
        for k in range(3)
    ]  # fmt: skip


def test_a_rule_that_follows_gets_the_derived_series_as_its_source(config: Config, job: Job) -> None:
    following = following_jobs(job, images("DERIVED", "SECONDARY", "AXIAL", "", "MAR"), config=config, now=NOW)
    (new,) = following.jobs
    assert (new.rule, new.pipeline, new.series_instance_uid) == ("quieter", "ct_denoising", "2.25.9")
    assert new.source_sop_instance_uids == ("2.25.0", "2.25.1", "2.25.2")
    assert new.handling == {"follows": True}
    assert [verdict["rule"] for verdict in following.verdicts] == ["quieter"]


def test_it_has_the_generation_of_its_source_and_is_not_less_urgent(config: Config, job: Job) -> None:
    (new,) = following_jobs(job, images("DERIVED", "SECONDARY", "AXIAL", "", "MAR"), config=config, now=NOW).jobs
    assert (new.generation, new.priority) == (4, 0)


def test_the_condition_is_asked_of_the_derived_images_and_the_answer_is_for_the_audit(config: Config, job: Job) -> None:
    following = following_jobs(job, images("DERIVED", "SECONDARY", "AXIAL"), config=config, now=NOW)
    assert following.jobs == ()
    assert not following.verdicts[0]["met"] and "MAR" in following.verdicts[0]["reason"]


def test_what_follows_any_rule_that_asked_for_the_work_is_done(config: Config, job: Job) -> None:
    joined = replace(job, rule="heads", rules=("heads", "metal"))
    following = following_jobs(joined, images("DERIVED", "SECONDARY", "AXIAL", "", "MAR"), config=config, now=NOW)
    assert [new.rule for new in following.jobs] == ["quieter"]


def test_where_nothing_follows_nothing_is_made(config: Config, job: Job) -> None:
    alone = replace(job, rule="nobody follows me", rules=("nobody follows me",))
    following = following_jobs(alone, images("DERIVED", "SECONDARY"), config=config, now=NOW)
    assert following.jobs == () and following.verdicts == ()
