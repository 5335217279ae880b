"""The figures can be read by Prometheus, say what happened since the start, and name no patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from dicomnode import metrics
from dicomnode.audit_export import AuditExport
from dicomnode.config import load_config
from dicomnode.metrics import Metrics, Standing
from storage import audit, catalog, deliveries, jobs, lanes
from storage.catalog import Instance
from storage.database import Database, open_engine
from storage.jobs import Event, Job, State
from tests.builders_standing import STANDING, instance, new_job
from tests.peers import free_port

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question reads anew."""
    monkeypatch.setattr(metrics, "KEEP_S", 0.0)


def read(asked: Metrics) -> Figures:
    """Name and labels -> value, as Prometheus' own parser reads the text."""
    families = text_string_to_metric_families(asked.text().decode("utf-8"))
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(found: Figures, name: str, **labels: str) -> float:
    return found[f"dicomnode_{name}", tuple(sorted(labels.items()))]


def begun(database: Database, standing: Standing = STANDING) -> Metrics:
    made = Metrics(database, standing)
    made.begin()
    return made


def derive(database: Database, instances: Iterable[Instance], **more: object) -> Job:
    """A job on these instances that was derived just now."""
    with database.begin() as connection:
        catalog.add_instances(connection, list(instances))
        job, _ = jobs.add_job(connection, replace(new_job(), **more))  # type: ignore[arg-type]
        jobs.move_job(connection, job.id, Event.CLAIM, expected=State.WAITING, now=job.created_at)
        job = jobs.move_job(
            connection,
            job.id,
            Event.FINISH,
            expected=State.RUNNING,
            derived_series_instance_uid="9.1",
            now=job.created_at,
        )
        deliveries.plan_deliveries(connection, job.id, ["9.1.1"], now=job.created_at)
        return job


def test_received_instances_and_bytes_are_counted_by_peer(database: Database) -> None:
    asked = begun(database)
    asked.count_listed([instance(1), instance(2)])
    asked.count_listed([replace(instance(3), peer="other", size_bytes=7)])
    found = read(asked)
    assert value(found, "received_instances_total", peer="scanner") == 2
    assert value(found, "received_bytes_total", peer="scanner") == 2 * 526_000
    assert value(found, "received_bytes_total", peer="other") == 7


def test_refusals_are_counted_by_peer_and_status_since_the_start(database: Database) -> None:
    with database.begin() as connection:
        audit.append(connection, "conflict", peer="scanner", details={"status": "0x0111"})
    asked = begun(database)
    with database.begin() as connection:
        for status in ("0x0111", "0xA700", "0xA700"):
            audit.append(connection, "instance refused", peer="scanner", details={"status": status})
        audit.append(connection, "store refused", peer="viewer", details={"reason": "may not"})
        audit.append(connection, "association refused", details={"calling_ae_title": "DOE", "reason": "unknown"})
    found = read(asked)
    assert value(found, "refused_instances_total", peer="scanner", status="0x0111") == 1
    assert value(found, "refused_instances_total", peer="scanner", status="0xA700") == 2
    assert value(found, "refused_instances_total", peer="viewer", status="store refused") == 1
    assert value(found, "happenings_total", event="association refused") == 1
    assert value(read(asked), "refused_instances_total", peer="scanner", status="0xA700") == 2, "counted once only"


def test_jobs_and_lanes_are_shown_as_they_stand(database: Database) -> None:
    job = derive(database, [instance(1)])
    with database.begin() as connection:
        jobs.add_job(connection, new_job(key="b" * 64))
        deliveries.postpone(
            connection, job.id, "pacs", next_try_at=job.created_at, reason="refused", now=job.created_at
        )
    found = read(begun(database))
    assert value(found, "jobs", state="derived") == 1 == value(found, "jobs", state="waiting")
    assert value(found, "jobs", state="failed") == 0
    assert value(found, "oldest_waiting_seconds") > 0
    assert value(found, "deliveries", peer="pacs", state="waiting") == 1
    assert value(found, "lane_failing_seconds", peer="pacs") > 0


def test_a_broken_lane_is_shown_with_what_waits_and_when_it_is_probed(database: Database) -> None:
    derive(database, [instance(1)])
    asked = begun(database)
    assert value(read(asked), "lane_broken", peer="pacs") == 0
    now = datetime.now(UTC)
    with database.begin() as connection:
        lanes.break_lane(connection, "pacs", reason="down", next_probe_at=now + timedelta(hours=1), now=now)
    found = read(asked)
    assert value(found, "lane_broken", peer="pacs") == 1 == value(found, "deliveries", peer="pacs", state="waiting")
    assert 0 < value(found, "lane_next_probe_seconds", peer="pacs") <= 3600
    assert value(found, "happenings_total", event="lane broken") == 1


def test_the_lag_of_an_audit_export_is_shown_while_there_is_one(database: Database, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(
        f'[audit_export]\nhost = "127.0.0.1"\nport = {free_port()}\ntransport = "tcp"\n'
    )
    (tmp_path / "rules.toml").write_text("")
    config = load_config(tmp_path)
    export = AuditExport(lambda: config, database)
    with database.begin() as connection:
        audit.append(connection, "quarantined", details={})
    export()
    found = read(begun(database, replace(STANDING, audit_export=export)))
    assert value(found, "audit_export_waiting_rows") == 1
    assert value(found, "audit_export_lag_seconds") > 0 < value(found, "audit_export_failing_seconds")
    config = replace(config, audit_export=None)
    assert ("dicomnode_audit_export_waiting_rows", ()) not in read(
        begun(database, replace(STANDING, audit_export=export))
    )


def test_latencies_are_observed_once_for_each_job_that_came_so_far(database: Database) -> None:
    asked = begun(database)
    job = derive(database, [instance(1), instance(2)])
    with database.begin() as connection:
        done = [deliveries.Result("9.1.1", deliveries.LedgerState.DONE, 0)]
        deliveries.record_results(connection, job.id, "pacs", done, now=job.created_at)
        deliveries.finish_delivery(connection, job.id, "pacs", now=job.created_at)
    for _ in range(2):
        found = read(asked)
        for step in ("waited", "ran", "received_to_derived", "derived_to_delivered", "received_to_delivered"):
            assert value(found, "job_seconds_count", step=step, pipeline=job.pipeline) == 1
        assert value(found, "delivery_seconds_count", peer="pacs") == 1
    # The made-up instances came in 2024: years before they were derived. The delivery took a moment.
    assert value(found, "job_seconds_bucket", step="received_to_derived", pipeline=job.pipeline, le="86400.0") == 0
    assert value(found, "job_seconds_bucket", step="derived_to_delivered", pipeline=job.pipeline, le="60.0") == 1
    assert value(found, "jobs_moved_total", state="delivered") == 1
    assert value(found, "deliveries_ended_total", peer="pacs", outcome="done") == 1


def test_the_process_the_disk_and_the_others_are_shown(database: Database) -> None:
    full = replace(STANDING, free_bytes=lambda: 10, processes=lambda: {"work-0": True, "send": False})
    found = read(begun(database, full))
    assert value(found, "disk_free_bytes") == 10 and value(found, "receiving") == 0
    assert value(found, "disk_watermark_bytes") == 1e9 and value(found, "associations_open") == 3
    assert value(found, "quarantined_files") == 2 and value(found, "database_up") == 1
    assert value(found, "process_up", process="work-0") == 1 and value(found, "process_up", process="send") == 0
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_a_database_away_is_told_and_what_else_is_known_still_shown(tmp_path: Path) -> None:
    away = Database(open_engine(f"sqlite:///{tmp_path}/empty.sqlite"))  # no tables: every question fails
    asked = Metrics(away, STANDING)
    asked.count_listed([instance(1)])
    found = read(asked)
    assert value(found, "database_up") == 0 and value(found, "disk_free_bytes") > 0
    assert value(found, "received_instances_total", peer="scanner") == 1
    assert ("dicomnode_jobs", (("state", "waiting"),)) not in found
    away.close()


def test_a_backlog_is_counted_in_portions_and_wholly(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PORTION", 2)
    asked = begun(database)
    with database.begin() as connection:
        for _ in range(5):
            audit.append(connection, "quarantined", details={"file": "x"})
    seen = [value(read(asked), "happenings_total", event="quarantined") for _ in range(3)]
    assert seen == [2, 4, 5]


def test_no_series_uid_and_no_value_of_a_header_is_in_the_figures(database: Database) -> None:
    asked = begun(database)
    job = derive(database, [replace(instance(1), header={"PatientName": "Doe^John", "Modality": "CT"})])
    asked.count_listed([instance(1)])
    text = asked.text().decode()
    assert text.count("dicomnode_") > 20
    for word in ("Doe", job.series_instance_uid, f'"{job.study_instance_uid}', job.key, job.rule):
        assert word not in text


def test_questions_in_quick_succession_are_answered_from_one_reading(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "KEEP_S", 3600.0)
    asked = begun(database)
    first = asked.text()
    asked.count_listed([instance(1)])
    assert asked.text() is first


def test_only_counts_and_times_are_asked_of_the_tables_not_their_headers(database: Database) -> None:
    said: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *call: said.append(str(call[2])))
    read(begun(database))
    assert said and not any("header" in statement for statement in said)
