"""What a question to a finished file gave, given again where all that it asked for has the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydicom.dataset import Dataset

from dicomnode.gate.read_back import CONTEXT, PIXEL_DATA
from dicomnode.gate.rules import Finding
from dicomnode.gate.watched import EVERY, Watched

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Recall:
    """The last answer to each question, with the bytes of what it asked for.

    Nothing has to say what a question reads: it is noted while it reads. A question must give its answer from the data
    set alone, all of it read: nothing that would read on later. One Recall is for the files of one series and its card.
    """

    _answers: dict[Hashable, tuple[dict[int, Any], Any]] = field(default_factory=dict)

    def of(self, question: Callable[[Dataset], Answer], dataset: Dataset) -> Answer:
        """What the question gives of the data set."""
        return self._of(question, question, dataset)

    def _of(self, name: Hashable, question: Callable[[Dataset], Answer], dataset: Dataset) -> Answer:
        if not isinstance(dataset, Watched) or dataset.spans is None:
            return question(dataset)
        known = self._answers.get(name)
        if known is not None and all(_bytes_of(dataset, tag) == span for tag, span in known[0].items()):
            dataset.note(known[0])  # for a question that asked this one
            answer: Answer = known[1]
            return answer
        asked = {*CONTEXT}
        with dataset.noting(asked):
            answer = question(dataset)
        if PIXEL_DATA not in asked:  # whose bytes are not among the spans
            self._answers[name] = {tag: _bytes_of(dataset, tag) for tag in asked}, answer
        return answer

    def findings(self, rule: Callable[[Dataset], Iterator[Finding]], dataset: Dataset) -> tuple[Finding, ...]:
        """All findings of the rule."""
        return self._of(("findings", rule), lambda one: tuple(rule(one)), dataset)


def _bytes_of(dataset: Watched, tag: int) -> Any:
    """The bytes of an element, None where it is absent; of EVERY which tags there are."""
    spans = dataset.spans or {}
    return tuple(spans) if tag == EVERY else spans.get(tag)
