"""What a rule and a pipeline's table decide about a job beside the pipeline's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Handling:
    """How a job treats its series; kept with the job, so that a later change of the config does not change it.

    also: what is made beside the derived images. follows: the source is what this node derived itself.
    character_set: what is declared for a source that declares none; empty: nothing.
    needs: what is read beside the source, and by what it is chosen, one a text.
    """

    also: tuple[str, ...] = ()
    split_mixed: bool = False
    split_uneven: bool = False
    follows: bool = False
    character_set: str = ""
    needs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Only what is not the usual, so that a new kind of handling changes no old job's key."""
        return {
            one.name: list(value) if isinstance(value := getattr(self, one.name), tuple) else value
            for one in fields(self)
            if getattr(self, one.name) != one.default
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Handling:
        """What `as_json` gave."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
        }
        return cls(**given)
