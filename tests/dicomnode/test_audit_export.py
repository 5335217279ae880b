"""The audit leaves the house whole: an outage or a restart loses no row, and doubles at most what was under way."""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dicomnode.audit_export import BATCH, LONGEST_PAUSE_S, AuditExport
from dicomnode.audit_settings import AuditReceiver
from dicomnode.config import Config, load_config
from dicomnode.tls import server_context
from storage import audit, catalog
from storage.audit_spool import Lag
from storage.database import Database
from storage.errors import DatabaseAway
from tests.builders_audit import SYSLOG, datagram_receiver, details_of, eventually, parsed, stream_receiver
from tests.builders_standing import instance
from tests.builders_tls import Authority
from tests.peers import free_port


def config(folder: Path, port: int, transport: str = "tcp", more: str = "", tls: str = "") -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(
        f'[peers.scanner]\nae_title = "CT1"\nmay = ["store"]\n{tls}'
        f'[audit_export]\nhost = "127.0.0.1"\nport = {port}\ntransport = "{transport}"\n{more}\n'
    )
    (folder / "rules.toml").write_text("")
    return load_config(folder)


def tell(database: Database, count: int) -> None:
    with database.begin() as connection:
        for number in range(count):
            audit.append(connection, "association released", peer="scanner", details={"instances_kept": number})


def export(settings: Config, database: Database, **more: object) -> AuditExport:
    return AuditExport(lambda: settings, database, **more)  # type: ignore[arg-type]


def test_every_row_arrives_once_in_order_as_a_message_the_schema_allows(tmp_path: Path, database: Database) -> None:
    tell(database, 450)
    with stream_receiver() as heard:
        sender = export(config(tmp_path / "config", heard.port), database)
        sender()
        assert heard.seqs == list(range(1, 451))
        assert heard.connections == 3
        assert sender.lag() == Lag(0, None) and sender.reason == ""
        tell(database, 1)
        sender()
        assert heard.seqs[-1] == 451
    for one in heard.messages[::100]:
        found = SYSLOG.fullmatch(one)
        assert found
        parsed(found["body"])


def test_what_is_told_while_the_receiver_is_away_waits_and_arrives_when_it_is_back(
    tmp_path: Path, database: Database
) -> None:
    port = free_port()
    sender = export(config(tmp_path / "config", port), database)
    tell(database, 3)
    pauses = []
    for _ in range(9):
        sender()
        pauses.append(sender.pause_s)
    assert pauses[:3] == [2, 4, 8] and pauses[-1] == LONGEST_PAUSE_S
    assert "Connection refused" in sender.reason and sender.failing_s > 0
    assert (behind := sender.lag()) is not None and behind.rows == 3
    tell(database, 2)
    with stream_receiver(port=port) as heard:
        sender()
        assert heard.seqs == [1, 2, 3, 4, 5]
    assert sender.reason == "" and sender.failing_s == 0 and sender.pause_s == 1


def test_a_restart_goes_on_behind_what_has_arrived(tmp_path: Path, database: Database) -> None:
    tell(database, 5)
    with stream_receiver() as heard:
        settings = config(tmp_path / "config", heard.port)
        export(settings, database)()
        tell(database, 5)
        export(settings, database)()
        assert heard.seqs == list(range(1, 11))


def test_a_receiver_that_dies_in_a_batch_gets_that_batch_again_and_no_row_is_lost(
    tmp_path: Path, database: Database
) -> None:
    tell(database, 1000)
    port = free_port()
    settings = config(tmp_path / "config", port)
    with stream_receiver(port=port, drop_after=BATCH // 2) as dying:
        export(settings, database)()
    with stream_receiver(port=port) as heard:
        export(settings, database)()
        assert heard.seqs == list(range(1, 1001))
    assert dying.seqs == list(range(1, BATCH // 2 + 1))


def test_a_receiver_that_never_gets_through_a_whole_batch_gets_smaller_ones_until_it_has_everything(
    tmp_path: Path, database: Database
) -> None:
    tell(database, 300)
    with stream_receiver(drop_after=60) as slow:
        sender = export(config(tmp_path / "config", slow.port), database)
        for _ in range(12):
            sender()
        assert sender.lag() == Lag(0, None)
        assert set(slow.seqs) == set(range(1, 301))


def test_a_fault_of_ours_is_said_to_monitors_and_tried_ever_less_often(tmp_path: Path, database: Database) -> None:
    tell(database, 1)
    with stream_receiver() as heard:
        sender = export(config(tmp_path / "config", heard.port), database)
        with database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_cursors RENAME TO elsewhere")
        for _ in range(2):
            with pytest.raises(DatabaseAway):
                sender()
        assert sender.reason == "DatabaseAway on our side; the log says more"
        assert sender.pause_s == 4 and sender.failing_s > 0
        with database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO audit_cursors")
        sender()
        assert heard.seqs == [1] and sender.reason == "" and sender.failing_s == 0


def test_a_sender_that_is_told_to_stop_leaves_the_rest_for_the_next_start(tmp_path: Path, database: Database) -> None:
    tell(database, 30)
    stop = threading.Event()
    with stream_receiver() as heard:
        settings = config(tmp_path / "config", heard.port)
        sender = export(settings, database, batch=10, stopping=lambda: stop.is_set() or len(heard.messages) >= 10)
        sender()
        assert heard.seqs == list(range(1, 11))
        export(settings, database, batch=10)()
        assert heard.seqs == list(range(1, 31))


def test_a_long_outage_and_its_end_are_rows_of_the_audit(tmp_path: Path, database: Database) -> None:
    port = free_port()
    sender = export(config(tmp_path / "config", port), database, away_row_s=0.0)
    tell(database, 1)
    sender()
    sender()
    with stream_receiver(port=port) as heard:
        sender()
        sender()
        assert heard.seqs == [1, 2, 3]
    with database.read() as connection:
        events = [one.event for one in audit.entries(connection)]
    assert events == ["association released", "audit export away", "audit export back"]


def test_a_short_outage_is_a_line_of_the_log(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    sender = export(config(tmp_path / "config", free_port()), database)
    tell(database, 1)
    with caplog.at_level(logging.WARNING):
        sender()
        sender()
    assert [line.getMessage() for line in caplog.records if "audit keeps what waits" in line.getMessage()] != []
    assert len(caplog.records) == 1
    with database.read() as connection:
        assert len(audit.entries(connection)) == 1


def test_over_tls_our_certificate_is_asked_for_and_a_receiver_with_another_authority_hears_nothing(
    tmp_path: Path, database: Database, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tell(database, 3)
    good = server_context(authority.certified("arr").identity, clients_required=True)
    other = Authority(tmp_path_factory.mktemp("other"), name="Other CA")
    node = authority.certified("node").toml

    def send_to(tls: ssl.SSLContext) -> list[int]:
        with stream_receiver(tls=tls) as heard:
            export(config(tmp_path / "config", heard.port, "tls", 'tls_name = "localhost"', tls=node), database)()
            return heard.seqs

    assert send_to(server_context(other.certified("arr").identity, clients_required=False)) == []
    refuses_ours = replace(authority.certified("arr").identity, authorities=other.certificate)
    assert send_to(server_context(refuses_ours, clients_required=True)) == []
    assert send_to(good) == [1, 2, 3]


def test_over_udp_every_row_is_a_datagram(tmp_path: Path, database: Database) -> None:
    tell(database, 20)
    with datagram_receiver() as heard:
        export(config(tmp_path / "config", heard.port, "udp"), database)()
        assert eventually(lambda: heard.seqs == list(range(1, 21)))


@pytest.mark.parametrize("named", [False, True])
def test_a_patient_is_named_only_where_the_administrator_wants_it(
    tmp_path: Path, database: Database, named: bool
) -> None:
    one = instance(1, series="1.2.3")
    with database.begin() as connection:
        catalog.add_instances(connection, [replace(one, header={"PatientID": "47-11", "PatientName": "Doe^Jane"})])
        audit.append(connection, "series closed", series_instance_uid="1.2.3", peer="scanner", details={"instances": 1})
    more = "patient_id = true" if named else ""
    with stream_receiver() as heard:
        export(config(tmp_path / "config", heard.port, more=more), database)()
    assert (b"47-11" in heard.messages[0]) is named
    assert b"Doe" not in heard.messages[0]


def test_nothing_is_asked_of_the_database_where_nothing_is_exported(tmp_path: Path, database: Database) -> None:
    settings = replace(config(tmp_path / "config", 514), audit_export=None)
    database.close()
    sender = export(settings, database)
    sender()
    assert sender.lag() is None


def test_a_receiver_that_a_reload_names_is_taken_at_the_next_call(tmp_path: Path, database: Database) -> None:
    tell(database, 2)
    in_force = [config(tmp_path / "config", free_port())]
    sender = AuditExport(lambda: in_force[0], database)
    sender()
    with stream_receiver() as heard:
        old = in_force[0].audit_export
        assert old is not None
        settings = old.settings.model_copy(update={"port": heard.port, "source_id": "ward-3"})
        in_force[0] = replace(in_force[0], audit_export=AuditReceiver(settings))
        sender()
    found = SYSLOG.fullmatch(heard.messages[0])
    assert found
    message = parsed(found["body"])
    assert message.find("AuditSourceIdentification").get("AuditSourceID") == "ward-3"
    assert details_of(message)["instances_kept"] == "0"
