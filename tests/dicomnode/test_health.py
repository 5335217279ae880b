"""Monitors are answered over HTTP, whatever the others do, and never take the node's strength."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dicomnode.health import CALLER_S, MOST_CALLERS, Answer, Monitor, alive_answer, ready_answer


@contextmanager
def monitor(answers: dict[str, object]) -> Iterator[Monitor]:
    running = Monitor("127.0.0.1", 0, answers)  # type: ignore[arg-type]
    running.start()
    try:
        yield running
    finally:
        running.stop()


def ask(port: int, path: str, *, method: str = "GET") -> tuple[int, str, str]:
    """Status, kind of content and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def test_a_path_is_answered_with_its_status_kind_and_body() -> None:
    with monitor({"/metrics": lambda: Answer(200, "text/plain; version=0.0.4", b"figures\n")}) as running:
        assert ask(running.port, "/metrics") == (200, "text/plain; version=0.0.4", "figures\n")
        assert ask(running.port, "/metrics?format=text")[0] == 200
        assert ask(running.port, "/metrics", method="HEAD") == (200, "text/plain; version=0.0.4", "")
        assert ask(running.port, "/etc/passwd")[0] == 404
        assert ask(running.port, "/metrics", method="POST")[0] == 501


def test_a_check_that_fails_or_cannot_be_asked_is_named_and_means_not_ready() -> None:
    def away() -> bool:
        raise OSError

    answer = ready_answer({"port": lambda: True, "database": away, "disk": lambda: False})
    assert (answer.status, answer.body) == (503, b"ok port\nNO database\nNO disk\n")
    assert ready_answer({"port": lambda: True}).status == 200


def test_remarks_are_words_beside_the_checks_that_make_nobody_unready() -> None:
    def away() -> list[str]:
        raise OSError

    answer = ready_answer({"port": lambda: True}, remarks=lambda: ["lane to pacs broken\nsince noon"])
    assert (answer.status, answer.body) == (200, b"ok port\n-- lane to pacs broken since noon\n")
    assert ready_answer({"port": lambda: True}, remarks=away).body == b"ok port\n"


def test_alive_means_that_the_threads_of_the_river_live() -> None:
    assert alive_answer(lambda: True).status == 200 and alive_answer(lambda: False).status == 503


def test_a_fault_while_answering_is_told_without_its_words() -> None:
    def broken() -> Answer:
        raise ValueError("Doe^John")

    with monitor({"/metrics": broken}) as running:
        status, _, body = ask(running.port, "/metrics")
    assert status == 500 and "ValueError" in body and "Doe" not in body


def test_alive_is_answered_while_other_questions_wait_and_more_of_those_are_turned_away() -> None:
    release = threading.Event()

    def slow() -> Answer:
        release.wait(20)
        return Answer(200, "text/plain", b"late\n")

    with monitor({"/metrics": slow, "/healthz": lambda: Answer(200, "text/plain", b"alive\n")}) as running:
        found: list[int] = []
        askers = [threading.Thread(target=lambda: found.append(ask(running.port, "/metrics")[0])) for _ in range(5)]
        for asker in askers:
            asker.start()
        deadline = time.monotonic() + 10
        while len(found) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(running.port, "/healthz")[0] == 200
        release.set()
        for asker in askers:
            asker.join(10)
    assert sorted(found) == [200, 200, 503, 503, 503]


def test_silent_callers_are_hung_up_on_and_then_others_are_heard() -> None:
    with monitor({"/healthz": lambda: Answer(200, "text/plain", b"alive\n")}) as running:
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(MOST_CALLERS)]
        try:
            deadline = time.monotonic() + 4 * CALLER_S
            while True:
                try:
                    assert ask(running.port, "/healthz")[0] == 200
                    break
                except (OSError, http.client.HTTPException):
                    assert time.monotonic() < deadline, "silent callers keep everybody out"
                    time.sleep(0.1)
            assert threading.active_count() < 4 * MOST_CALLERS
        finally:
            for one in silent:
                one.close()


def test_a_port_that_is_taken_is_a_fault_and_a_stopped_monitor_gives_its_port_back() -> None:
    with monitor({}) as first, pytest.raises(OSError):
        Monitor("127.0.0.1", first.port, {})
    Monitor("127.0.0.1", first.port, {}).stop()
