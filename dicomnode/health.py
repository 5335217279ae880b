"""The HTTP door for monitors: /healthz, /readyz and /metrics on an address of their own, apart from the river."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOG = logging.getLogger(__name__)
MOST_CALLERS, MOST_QUESTIONS, CALLER_S = 16, 2, 5.0
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question is answered: status, kind of content, body."""

    status: int
    content_type: str
    body: bytes


Check = Callable[[], bool]


def alive_answer(alive: Check) -> Answer:
    """200 while the process and its threads live; asks nothing that could wait."""
    return Answer(200, PLAIN, b"alive\n") if alive() else Answer(503, PLAIN, b"a thread of the river has ended\n")


def ready_answer(checks: Mapping[str, Check], *, remarks: Callable[[], Sequence[str]] = tuple) -> Answer:
    """200 when every check holds, else 503; a line for each, so that a person sees which.

    remarks: lines beside them that make nobody unready.
    """
    lines, ready = [], True
    for name, holds in checks.items():
        try:
            good = holds()
        except Exception as fault:  # whatever keeps a check from an answer is a no
            LOG.warning("health: %s could not be asked: %s", name, type(fault).__name__)
            good = False
        ready = ready and good
        lines.append(f"{'ok' if good else 'NO'} {name}\n")
    try:
        lines += [f"-- {' '.join(remark.split())}\n" for remark in remarks()]
    except Exception as fault:
        LOG.warning("health: remarks could not be asked: %s", type(fault).__name__)
    return Answer(200 if ready else 503, PLAIN, "".join(lines).encode())


class Monitor:
    """Answers over HTTP in threads of its own; few at a time, so that monitors never take the node's strength."""

    def __init__(self, host: str, port: int, answers: Mapping[str, Callable[[], Answer]]) -> None:
        """answers: path -> what gives the answer. Raises OSError when the port cannot be had."""
        slow = threading.BoundedSemaphore(MOST_QUESTIONS)

        class Handler(_Handler):
            paths, questions = answers, slow

        self._server = _Server((host, port), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True)

    def start(self) -> None:
        """Questions are answered from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The port is given back."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._callers = threading.BoundedSemaphore(MOST_CALLERS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for each caller, and no more callers than are allowed: who comes then is hung up on."""
        if not self._callers.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The caller's place is free again when it has been answered."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._callers.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up or says nothing is no event."""
        LOG.debug("health: a caller was lost")


class _Handler(BaseHTTPRequestHandler):
    paths: Mapping[str, Callable[[], Answer]] = {}
    questions: threading.BoundedSemaphore
    timeout = CALLER_S
    server_version, sys_version = "dicomnode", ""

    def do_GET(self) -> None:
        """The answer of the path; /healthz never waits for the others."""
        path = self.path.partition("?")[0]
        give = self.paths.get(path)
        if give is None:
            self._write(Answer(404, PLAIN, b"there are /healthz, /readyz and /metrics\n"))
        elif path == "/healthz":
            self._write(give())
        elif self.questions.acquire(blocking=False):
            try:
                answer = give()
            except Exception as fault:  # a monitor must hear that something is wrong, and not what it quotes
                LOG.exception("health: %s could not be answered", path)
                answer = Answer(500, PLAIN, f"{type(fault).__name__}; the log has the trace\n".encode())
            finally:
                self.questions.release()
            self._write(answer)
        else:
            self._write(Answer(503, PLAIN, b"busy with other questions\n"))

    do_HEAD = do_GET

    def _write(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Probes come every few seconds: they are not logged."""
