"""A running node tells a syslog receiver everything that happens, through outages, a kill and restarts."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path

from tests.builders_audit import SYSLOG, Receiver, parsed, stream_receiver
from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, encoded_data_set, sop_instance_uid_of, store_command
from tests.peers import RunningNode, free_port, wait_until


def told(heard: Receiver) -> list[str]:
    """Our own words for what was told, every message held to the schema."""
    bodies = [SYSLOG.fullmatch(one) for one in heard.messages]
    assert all(bodies)
    last = "EventIdentification/EventTypeCode[last()]"
    return [parsed(one["body"]).find(last).get("originalText") for one in bodies if one]


def figure(port: int, name: str) -> float:
    """One figure of /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"dicomnode_{name} "))


def ready_text(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/readyz")
    return connection.getresponse().read().decode()


def test_a_receiver_that_was_away_hears_of_every_row_once_also_after_a_kill(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    syslog, monitor = free_port(), free_port()
    table = f'[audit_export]\nhost = "127.0.0.1"\nport = {syslog}\ntransport = "tcp"\n'
    node = make_node(free_port(), rules="", quiet_seconds=0.5, more=table, more_node=f"http_port = {monitor}").start()
    (sent,) = write_ct_series(tmp_path / "source", slices=1, rows=16, columns=16)
    with RawPeer(node.port) as scanner:
        scanner.send_fragment(3, store_command(sop_instance_uid_of(sent)))
        scanner.send_fragment(2, encoded_data_set(sent))
        assert scanner.read_status() == 0x0000
    wait_until(lambda: any(row["event"] == "series closed" for row in node.audit()), what="the series closed")
    wait_until(lambda: figure(monitor, "audit_export_failing_seconds") > 0, what="the outage in the figures")
    assert figure(monitor, "audit_export_waiting_rows") >= 2
    assert "audit export waits" in ready_text(monitor)
    node.kill()
    node.start()
    with stream_receiver(port=syslog) as heard:
        wait_until(lambda: "node started" in told(heard)[1:], what="the second start being told")
        wait_until(lambda: figure(monitor, "audit_export_waiting_rows") == 0, what="nothing waiting")
        assert "audit export waits" not in ready_text(monitor)
        events = [str(row["event"]) for row in node.audit()]
        wait_until(lambda: len(heard.messages) >= len(events), what="every row")
        assert heard.seqs == list(range(1, len(heard.messages) + 1))
        assert told(heard)[: len(events)] == events
        assert {"node started", "series closed"} <= set(events)
    assert node.stop() == 0
    node.start()
    with stream_receiver(port=syslog) as again:
        wait_until(lambda: "node started" in told(again), what="the third start being told")
        assert told(again)[0] == "node stopped"
        assert again.seqs == list(range(len(heard.messages) + 1, len(heard.messages) + len(again.messages) + 1))
