"""Syslog out: whole messages, or a fault; a receiver that is away, refuses us or is another is no success."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dicomnode.errors import ReceiverAway
from dicomnode.syslog import Place, framed, send_messages, syslog_message
from dicomnode.tls import caller_context, server_context
from tests.builders_audit import (
    AT,
    SYSLOG,
    datagram_receiver,
    eventually,
    seq_of,
    stream_receiver,
)
from tests.builders_tls import Authority
from tests.peers import free_port

BODY = b'<?xml version="1.0"?><AuditMessage/>'
MESSAGES = [syslog_message(BODY, at=AT, host="node-1", seq=seq, process="17") for seq in range(1, 6)]


def place(transport: str, port: int, **more: object) -> Place:
    return replace(Place("127.0.0.1", port, transport, timeout_s=5.0), **more)  # type: ignore[arg-type]


def test_a_message_is_of_rfc_5424_with_what_ps3_15_asks() -> None:
    found = SYSLOG.fullmatch(MESSAGES[0])
    assert found
    assert found["priority"] == b"85" and found["host"] == b"node-1" and found["process"] == b"17"
    assert found["at"] == b"2026-05-06T07:08:09.123456Z" and found["body"] == BODY
    warning = syslog_message(BODY, at=AT, host="node-1", seq=1, process="17", warns=True)
    assert warning.startswith(b"<84>1 ")


def test_odd_names_stay_one_word_and_a_long_audit_wraps_its_sequence() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    odd = syslog_message(b"x", at=at, host="a b\nç", seq=2_147_483_648, process="")
    assert b" a_b__ dicomnode - " in odd and b'sequenceId="1"' in odd


def test_a_frame_counts_octets() -> None:
    assert framed("µ".encode()) == b"2 \xc2\xb5"


def test_over_tcp_every_message_has_been_read_when_the_call_returns() -> None:
    with stream_receiver() as heard:
        send_messages(place("tcp", heard.port), MESSAGES)
        send_messages(place("tcp", heard.port), MESSAGES[:1])
        assert heard.seqs == [1, 2, 3, 4, 5, 1] and heard.connections == 2


def test_a_receiver_that_dies_in_the_middle_is_no_success() -> None:
    many = MESSAGES * 2000  # more than lies in the buffers between us
    with stream_receiver(drop_after=3) as heard, pytest.raises(ReceiverAway):
        send_messages(place("tcp", heard.port), many)


def test_nobody_there_is_said_with_the_place() -> None:
    port = free_port()
    with pytest.raises(ReceiverAway, match=f"127.0.0.1:{port}: Connection refused"):
        send_messages(place("tcp", port), MESSAGES)


def test_a_receiver_that_does_not_end_its_side_has_said_nothing() -> None:
    with stream_receiver(ends=False) as heard:
        with pytest.raises(ReceiverAway, match="did not take it in time"):
            send_messages(place("tcp", heard.port, timeout_s=0.5), MESSAGES)
        assert eventually(lambda: heard.seqs == [1, 2, 3, 4, 5])


def test_a_receiver_that_reads_nothing_is_no_success() -> None:
    away = pytest.raises(ReceiverAway, match="did not take it in time")
    with socket.create_server(("127.0.0.1", 0)) as listener, away:
        send_messages(place("tcp", listener.getsockname()[1], timeout_s=0.5), MESSAGES)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_over_tls_both_show_certificates_and_every_message_is_read(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    theirs = server_context(authority.certified("arr").identity, clients_required=True)
    theirs.minimum_version = theirs.maximum_version = version
    ours = authority.certified("node").identity
    with stream_receiver(tls=theirs) as heard:
        send_messages(place("tls", heard.port, tls_name="localhost"), MESSAGES, tls=lambda: caller_context(ours))
        assert heard.seqs == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_receiver_that_refuses_our_certificate_is_no_success(
    authority: Authority, version: ssl.TLSVersion, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), name="Stranger CA").certified("node").identity
    theirs = server_context(authority.certified("arr").identity, clients_required=True)
    theirs.minimum_version = theirs.maximum_version = version
    ours = replace(stranger, authorities=authority.certificate)
    with stream_receiver(tls=theirs) as heard:
        for count in (1, 2000) * 10:  # one small record, and more than is under way at once: it is told differently
            with pytest.raises(ReceiverAway):
                send_messages(
                    place("tls", heard.port, tls_name="localhost"),
                    MESSAGES[:1] * count,
                    tls=lambda: caller_context(ours),
                )
        assert heard.messages == []


@pytest.mark.parametrize(
    ("version", "tickets", "known"),
    [(ssl.TLSVersion.TLSv1_2, 0, True), (ssl.TLSVersion.TLSv1_3, 2, True), (ssl.TLSVersion.TLSv1_3, 0, False)],
)
def test_a_receiver_that_ends_without_close_notify_is_believed_when_it_surely_took_our_certificate(
    authority: Authority, version: ssl.TLSVersion, tickets: int, known: bool
) -> None:
    theirs = server_context(authority.certified("arr").identity, clients_required=True)
    theirs.minimum_version = theirs.maximum_version = version
    theirs.num_tickets = tickets
    if tickets:
        theirs.options &= ~ssl.OP_NO_TICKET
    ours = authority.certified("node").identity
    with stream_receiver(tls=theirs, notifies=False) as heard:
        where = place("tls", heard.port, tls_name="localhost")
        if known:
            send_messages(where, MESSAGES, tls=lambda: caller_context(ours))
        else:
            with pytest.raises(ReceiverAway, match="cannot be known"):
                send_messages(where, MESSAGES, tls=lambda: caller_context(ours))
        assert heard.seqs == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_another_receiver_hears_nothing(
    authority: Authority, wrong: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"), name="Other CA")
    theirs = server_context((authority if wrong == "name" else other).certified("arr").identity, clients_required=False)
    ours = authority.certified("node").identity
    name = "another.hospital" if wrong == "name" else "localhost"
    with stream_receiver(tls=theirs) as heard:
        with pytest.raises(ReceiverAway, match="its certificate is not accepted"):
            send_messages(place("tls", heard.port, tls_name=name), MESSAGES, tls=lambda: caller_context(ours))
        assert heard.messages == []


def test_over_udp_each_message_is_a_datagram() -> None:
    with datagram_receiver() as heard:
        send_messages(place("udp", heard.port), MESSAGES)
        assert eventually(lambda: [seq_of(one) for one in heard.messages] == [1, 2, 3, 4, 5])


def test_over_udp_a_port_where_nobody_listens_is_noticed_when_its_system_says_so() -> None:
    with pytest.raises(ReceiverAway):
        send_messages(place("udp", free_port()), MESSAGES[:1])


def test_tls_without_a_context_and_a_context_without_tls_are_refused() -> None:
    with stream_receiver() as heard, pytest.raises(ValueError, match="TLS context"):
        send_messages(place("tls", heard.port), MESSAGES)
