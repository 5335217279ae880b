"""Which stored instances an export is about: of series, of studies, or of the series that meet a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicomnode.errors import NodeFault
from dicomnode.rules import Rule, judge_rule, shared_attributes
from storage import catalog
from storage.catalog import Instance, Origin
from storage.database import Connection


class NothingChosen(NodeFault):
    """Nothing that is stored here was named; look with `dicomnode jobs`, or name another."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One series and its instances, in the order they came."""

    series_instance_uid: str
    study_instance_uid: str
    origin: Origin
    instances: tuple[Instance, ...]


def choose(
    connection: Connection, *, series: Sequence[str] = (), studies: Sequence[str] = (), rules: Sequence[Rule] = ()
) -> list[Chosen]:
    """Every series that is named, is of a named study, or was received and meets a rule.

    Raises NothingChosen, saying what is not stored here.
    """
    known = catalog.list_series(connection)
    for kind, wanted, held in (
        ("series", series, {one.series_instance_uid for one in known}),
        ("study", studies, {one.study_instance_uid for one in known}),
    ):
        if missing := [uid for uid in wanted if uid not in held]:
            raise NothingChosen(f"{kind} {missing[0]} is not stored here")
    chosen = []
    for one in known:
        named = one.series_instance_uid in series or one.study_instance_uid in studies
        if not named and not (rules and one.origin is Origin.RECEIVED):
            continue
        instances = tuple(catalog.series_instances(connection, one.series_instance_uid))
        if named or _meets(rules, instances, one.peer):
            chosen.append(Chosen(one.series_instance_uid, one.study_instance_uid, one.origin, instances))
    if not chosen:
        raise NothingChosen("no stored series meets the rule" if rules else "name a series, a study or a rule")
    return chosen


def _meets(rules: Sequence[Rule], instances: Sequence[Instance], peer: str) -> bool:
    shared = shared_attributes([one.header for one in instances])
    return any(judge_rule(rule, shared, peer=peer).met for rule in rules)
