"""Which attributes that Table E.1-1 removes, or may remove, an object must hold, by its SOP class.

`required.json` is made from the tables highdicom carries by

    python -m dicomnode.deidentify.required
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from dicomnode.deidentify.profile import rows

REQUIRED_FILE = Path(__file__).with_suffix(".json")


def made_table() -> dict[str, Any]:
    """SOP Class UID -> D: attributes of Type 1, Z: of Type 2 at the root; in_items: the same of what X removes there.

    Of a choice, conditional types count too.
    """
    found = find_spec("highdicom")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / "_standard"
    modules_of = json.loads((folder / "iod_module_map.json").read_text())
    attributes_of = json.loads((folder / "module_attribute_map.json").read_text())
    iod_of = json.loads((folder / "sop_class_iod_map.json").read_text())
    choices, removed = _keywords(choice=True), _keywords(choice=False)
    classes = {}
    for sop_class_uid, iod in sorted(iod_of.items()):
        at_root: dict[str, str] = {}
        in_items: dict[str, str] = {}
        for module in modules_of.get(iod, ()):
            for row in attributes_of.get(module["key"], ()):
                keyword, kind = row["keyword"], str(row["type"])
                if not row["path"] and keyword in choices:
                    at_root[keyword] = min(at_root.get(keyword, "3"), kind[:1])
                elif keyword in removed and kind in ("1", "2"):
                    types = in_items if row["path"] else at_root
                    types[keyword] = min(types.get(keyword, "3"), kind)
        classes[sop_class_uid] = {**_by_code(at_root), "in_items": _by_code(in_items)}
    return {"made_from": f"highdicom {version('highdicom')}", "classes": classes}


@cache
def table() -> Mapping[str, Any]:
    """The committed table."""
    content: Mapping[str, Any] = json.loads(REQUIRED_FILE.read_text())
    return content


def needed_of(keyword: str, *, sop_class_uid: str, at_root: bool) -> str:
    """D, Z or X: what must be there. Of a choice, in items and in objects that the table does not know, the most, D."""
    known = table()["classes"].get(sop_class_uid)
    if keyword in _keywords(choice=True) and (known is None or not at_root):
        return "D"
    there = known if known is None or at_root else known["in_items"]
    return "X" if there is None else next((code for code in ("D", "Z") if keyword in there[code]), "X")


@cache
def _keywords(*, choice: bool) -> frozenset[str]:
    """Those of rows with a choice such as X/Z; or those of single values that are simply removed."""
    found = set()
    for name, row in rows().items():
        tag = int(name, 16) if name != "private" and "x" not in name else 0
        if dictionary_has_tag(tag) and ("/" in row.basic if choice else row.basic == "X"):
            found |= {keyword_for_tag(tag)} if choice or dictionary_VR(tag) not in ("SQ", "OB") else set()
    return frozenset(found)


def _by_code(types: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        code: sorted(keyword for keyword, kind in types.items() if kind == number)
        for code, number in (("D", "1"), ("Z", "2"))
    }


if __name__ == "__main__":
    REQUIRED_FILE.write_text(json.dumps(made_table(), separators=(",", ":")) + "\n")
