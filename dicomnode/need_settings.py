"""The tables `[needs.NAME]` and `[[retrieve]]` of rules.toml: what is fetched from peers, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dicomnode.conditions import Condition
from dicomnode.config_faults import Location, TomlFile, did_you_mean
from dicomnode.expressions import LONGEST_CONDITION, ConditionFault
from dicomnode.peer import Peer

if TYPE_CHECKING:
    from dicomnode.settings import RulesFile
    from inference.pipeline import Card

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
Modality = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]
How = Literal["move", "get"]
HOW = "move: C-MOVE to our own port, which the peer must know; get: C-GET over one association."
LONGEST_LIMIT_S = 30 * 86400


class NeedTable(BaseModel):
    """One `[needs.NAME]` table of rules.toml: a series that a pipeline reads beside its source."""

    model_config = STRICT

    modality: Modality = Field(description="Modality of the series, e.g. CT.")
    of: Literal["study", "earlier"] = Field(
        default="study",
        description="study: a series of the same study; earlier: one of the latest earlier study of the same patient, "
        "of those that are here; peers are asked where nothing here fits.",
    )
    when: str = Field(
        default="",
        max_length=LONGEST_CONDITION,
        description="What must hold of the series, in CEL over DICOM keywords as in a rule; empty: anything.",
    )
    description: str = Field(
        default="",
        max_length=64,
        description="Its SeriesDescription, with * and ? as wildcards; peers are asked with it. Empty: any.",
    )
    same_frame_of_reference: bool = Field(
        default=False, description="true: only a series in the source's own Frame of Reference."
    )
    from_peers: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        alias="from",
        description="Names of the peers that are asked when it is not here, in this order; empty: it is waited for.",
    )
    how: How = Field(default="move", description=HOW)
    limit_s: float = Field(
        default=3600.0,
        gt=0,
        le=LONGEST_LIMIT_S,
        description="Seconds after which the job is refused (input-missing) when it is still not here.",
    )
    every_s: float = Field(default=60.0, gt=0, description="Seconds before peers are asked again.")

    @property
    def chosen_by(self) -> str:
        """What decides which series it is: part of what makes a job the same work."""
        fields = ("modality", "of", "when", "description", "same_frame_of_reference")
        return json.dumps({name: getattr(self, name) for name in fields}, sort_keys=True)

    @property
    def as_kept(self) -> dict[str, Any]:
        """The table as it is kept with a job, so that a later change of the config does not change the job."""
        return self.model_dump(mode="json", by_alias=True)


class RetrieveTable(BaseModel):
    """One `[[retrieve]]` table of rules.toml: new series that a peer is asked for from time to time."""

    model_config = STRICT

    name: str = Field(min_length=1, max_length=64, description="What audit and log call it; no two share one.")
    from_peer: str = Field(alias="from", description="Name of the peer that is asked.")
    modality: Annotated[tuple[Modality, ...], Field(strict=False)] = Field(
        default=(), description="Modalities of the series; empty: any."
    )
    description: str = Field(
        default="", max_length=64, description="Their SeriesDescription, with * and ? as wildcards; empty: any."
    )
    study_description: str = Field(
        default="", max_length=64, description="StudyDescription of their studies, with * and ?; empty: any."
    )
    days: int = Field(
        default=1,
        ge=0,
        le=3650,
        description="Studies of today and so many days before it are asked for; after an outage those since the last "
        "answer, 31 days back at most.",
    )
    every_minutes: float = Field(default=10.0, gt=0, description="Minutes between two questions.")
    most: int = Field(
        default=100, ge=1, le=10_000, description="So many series are fetched after one question at most."
    )
    how: How = Field(default="move", description=HOW)


def fetching_faults(
    file: TomlFile, tables: RulesFile, peers: Mapping[str, Peer], cards: Mapping[str, Card]
) -> Iterator[Any]:
    """What is wrong with the needs of rules and with `[[retrieve]]`, beside what the models say."""
    for name, need in tables.needs.items():
        yield from _asked(file, ("needs", name, "from"), need.from_peers, need.how, peers)
        if need.when:
            try:
                Condition(need.when)
            except ConditionFault as fault:
                yield file.fault(("needs", name, "when"), f"in need {name!r}: {fault}")
    names: set[str] = set()
    for index, one in enumerate(tables.retrieve):
        if one.name in names:
            yield file.fault(("retrieve", index, "name"), f"another one is called {one.name!r} already")
        names.add(one.name)
        yield from _asked(file, ("retrieve", index, "from"), (one.from_peer,), one.how, peers)
    for index, rule in enumerate(tables.rules):
        place = ("rules", index, "needs")
        if len(set(rule.needs)) < len(rule.needs):
            yield file.fault(place, "names a need twice")
        for name in rule.needs:
            if name not in tables.needs:
                yield file.fault(place, f"there is no [needs.{name}] in rules.toml{did_you_mean(name, tables.needs)}")
        card = cards.get(rule.run)
        wanted = dict(card.needs) if card is not None else {}
        for name in sorted(set(rule.needs) - set(wanted)):
            reads = f"it reads {', '.join(wanted)}" if wanted else "it reads its source only"
            yield file.fault(place, f"{rule.run or 'a rule that holds'} has no input {name!r}: {reads}")
        for name in sorted(set(wanted) - set(rule.needs)):
            yield file.fault(place, f"{rule.run} needs {name!r}, a {wanted[name]} series: name it here")
        for name in rule.needs:
            if name in tables.needs and name in wanted and tables.needs[name].modality != wanted[name]:
                yield file.fault(("needs", name, "modality"), f"{rule.run} reads a {wanted[name]} series as {name!r}")


def _asked(
    file: TomlFile, place: Location, names: tuple[str, ...], how: How, peers: Mapping[str, Peer]
) -> Iterator[Any]:
    for name in names:
        if name not in peers:
            yield file.fault(place, f"there is no peer {name!r} in node.toml{did_you_mean(name, peers)}")
        elif not peers[name].reachable:
            yield file.fault(place, f"{name!r} cannot be asked: give it host and port in node.toml")
        elif how == "move" and "store" not in peers[name].may:
            yield file.fault(
                place, f'{name!r} may not "store": what it sent would be refused; allow it, or how = "get"'
            )
