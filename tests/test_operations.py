"""What docs/OPERATIONS.md hands to systemd and to containers is well formed, keeps no secret and says what is true."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dicomnode import metrics
from dicomnode.audit_export import AuditExport
from dicomnode.config import load_config
from dicomnode.metrics import Metrics
from storage.database import Database
from tests.builders_standing import STANDING

DOCS = Path(__file__).parents[1] / "docs"
UNIT = DOCS / "systemd" / "dicomnode.service"
WORKERS = DOCS / "systemd" / "dicomnode-workers.service"


@pytest.mark.parametrize("source", [UNIT, WORKERS], ids=lambda path: path.name)
def test_systemd_understands_every_line_of_the_unit(source: Path, tmp_path: Path) -> None:
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / source.name  # the program is not installed where the unit looks for it
    unit.write_text(source.read_text().replace("/opt/dicomnode/venv/bin/dicomnode", "/bin/true"))
    found = subprocess.run([analyse, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0 and not found.stderr, found.stderr


def test_the_unit_waits_for_ready_and_gives_the_node_time_to_drain() -> None:
    from dicomnode.node import CHILD_DRAIN_S
    from dicomnode.receiver import DRAIN_S

    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    assert service["Type"] == "notify" and int(service["WatchdogSec"]) >= 30
    assert int(service["TimeoutStopSec"]) >= 3 * DRAIN_S + CHILD_DRAIN_S
    assert "--config /etc/dicomnode" in service["ExecStart"] and service["User"] != "root"


def test_the_compose_file_keeps_no_secret_and_shows_figures_to_this_machine_only() -> None:
    compose = yaml.safe_load((DOCS / "compose.yaml").read_text())
    node, database = compose["services"]["node"], compose["services"]["postgres"]
    assert node["depends_on"]["postgres"]["condition"] == "service_healthy" and "healthcheck" in database
    assert (
        "POSTGRES_PASSWORD" not in database["environment"] and "DICOMNODE_DATABASE_PASSWORD" not in node["environment"]
    )
    assert [port for port in node["ports"] if "9112" in port] == ["127.0.0.1:9112:9112"]
    workers = compose["services"]["workers"]
    assert workers["image"] == node["image"] and "DICOMNODE_DATABASE_PASSWORD" not in workers["environment"]
    assert "ports" not in workers and "data:/data" in workers["volumes"]
    assert "ports" not in database, "the database is for the node only"
    copied = re.findall(r"^COPY (.+) \S+$", node["build"]["dockerfile_inline"], re.MULTILINE)
    for name in " ".join(copied).split():
        assert (DOCS.parent / name).exists(), name


def test_every_figure_that_is_described_is_given(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    (tmp_path / "node.toml").write_text('[audit_export]\nhost = "127.0.0.1"\ntransport = "udp"\n')
    (tmp_path / "rules.toml").write_text("")
    config = load_config(tmp_path)
    standing = replace(STANDING, audit_export=AuditExport(lambda: config, database))
    given = set(re.findall(r"^# TYPE (\w+)", Metrics(database, standing).text().decode(), re.MULTILINE))
    database.close()
    described = set(re.findall(r"`((?:dicomnode|process)_\w+)`", (DOCS / "OPERATIONS.md").read_text()))
    assert described <= given, described - given
    own = {name for name in given if name.startswith("dicomnode_") and not name.endswith("_created")}
    assert own <= described, own - described
    assert metrics.CONTENT_TYPE.startswith("text/plain; version=0.0.4")
