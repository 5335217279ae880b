"""A verification as a table for a person and as JSON for a script."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from dicomnode.verify.tally import Verdict, Verification

STYLE = {"met": "green", "missed": "bold red", "not asked": "yellow"}
VERDICT_STYLE = {Verdict.OK: "bold green", Verdict.FAILED: "bold red", Verdict.INCOMPLETE: "bold yellow"}
RULES = {
    "C1": "class and Modality agree", "C2": "patient and study are the source's", "C3": "own, new UIDs",
    "C4": "the source's frame of reference", "C5": "the source's geometry", "C6": "instance numbers",
    "C7": "series number", "C8": "series description", "C9": "the node is the equipment",
    "C10": "scanner and model contributed", "C11": "ImageType", "C12": "derivation is described",
    "C13": "source images are named", "C14": "references are complete", "C15": "the source series is named",
    "C16": "series time is the job's", "C17": "all times are the job's", "C18": "acquisition is the source's",
    "C19": "time zone", "C20": "lossy history stays said", "C21": "burned-in annotation", "C22": "research or product",
    "C23": "synthetic data says so", "C24": "not for diagnosis", "C25": "what is not true any more is removed",
    "C26": "the object's attributes, as in the source", "C27": "windows", "C28": "character set is kept",
    "C29": "request, region, side, position", "K1": "our texts are ASCII", "T1": "CT pixels are HU",
    "T2": "CT acquisition is the source's", "T3": "a synthetic CT names no acquisition", "T4": "padding",
    "T5": "HU that can be", "P1": "PET time base", "P2": "PET units and corrections", "P3": "PET pixels and slope",
    "P4": "PET counts of images", "P5": "tracer", "P6": "Philips scale factors", "P7": "PET without CT attributes",
    "M1": "MR acquisition is the source's", "M2": "MR keeps its stored scale", "M3": "one kind of MR image",
    "S1": "masks lie on the images", "S2": "side of the body is said", "S3": "maps lie on the images",
    "S5": "evidence is complete", "U1": "UIDs of the node's form", "U2": "UIDs can be made again",
    "U4": "one UID, one content", "U6": "written by the node", "READ": "files can be read",
    "PASSPORT": "passports agree with the files",
}  # fmt: skip
"""Each rule in a few words; DERIVED_SERIES has them in full."""


def verification_table(verification: Verification) -> Table:
    """A row for each rule; the verdict and what it rests on below."""
    images = sum(count for _, count in verification.series)
    table = Table(
        title=f"{len(verification.series)} derived series, {images} images, {verification.companions} other objects, "
        f"{verification.passports} passports",
        caption=_caption(verification),
        caption_justify="left",
    )
    for heading in ("rule", "what it asks", "state", "met", "missed", "not asked", "first"):
        table.add_column(heading, overflow="fold")
    for rule in verification.rules:
        first = ": ".join(part for part in (rule.first_subject, rule.message) if part)
        table.add_row(
            rule.rule,
            RULES.get(rule.rule, ""),
            f"[{STYLE[rule.state]}]{rule.state}[/]",
            *(str(count) if count else "" for count in (rule.met, rule.missed, rule.not_asked)),
            escape(first),
        )
    return table


def _caption(verification: Verification) -> str:
    verdict = verification.verdict
    lines = [f"[{VERDICT_STYLE[verdict]}]{verdict}[/]"]
    if not verification.series:
        lines.append("There is no derived series of this kind of node in the folder.")
    if verification.missing:
        first = verification.missing[0]
        lines.append(f"{len(verification.missing)} instances that are referred to are not there, e.g. {first}")
    return "\n".join([*lines, *(escape(note) for note in verification.notes)])


def verification_as_json(verification: Verification) -> str:
    """The same for a script."""
    made = asdict(verification) | {
        "verdict": verification.verdict,
        "exit_code": verification.exit_code,
        "series": [{"series_instance_uid": uid, "images": count} for uid, count in verification.series],
        "rules": [asdict(rule) | {"state": rule.state} for rule in verification.rules],
    }
    return json.dumps(made, indent=2, ensure_ascii=True)
