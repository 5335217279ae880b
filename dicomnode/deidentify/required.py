"""Which attributes with a choice in Table E.1-1 an object must hold, by its SOP class.

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

from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from dicomnode.deidentify.profile import rows

REQUIRED_FILE = Path(__file__).with_suffix(".json")


def made_table() -> dict[str, Any]:
    """SOP Class UID -> D: attributes of Type 1, Z: of Type 2, at the root of the object; conditional ones count."""
    found = find_spec("highdicom")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / "_standard"
    modules_of = json.loads((folder / "iod_module_map.json").read_text())
    attributes_of = json.loads((folder / "module_attribute_map.json").read_text())
    iod_of = json.loads((folder / "sop_class_iod_map.json").read_text())
    wanted = _with_a_choice()
    classes = {}
    for sop_class_uid, iod in sorted(iod_of.items()):
        types: dict[str, str] = {}
        for module in modules_of.get(iod, ()):
            for row in attributes_of.get(module["key"], ()):
                if not row["path"] and row["keyword"] in wanted:
                    types[row["keyword"]] = min(types.get(row["keyword"], "3"), str(row["type"])[:1])
        classes[sop_class_uid] = {
            code: sorted(keyword for keyword, type_ in types.items() if type_ == number)
            for code, number in (("D", "1"), ("Z", "2"))
        }
    return {"made_from": f"highdicom {version('highdicom')}", "classes": classes}


@cache
def table() -> Mapping[str, Any]:
    """The committed table."""
    content: Mapping[str, Any] = json.loads(REQUIRED_FILE.read_text())
    return content


def needed_of(keyword: str, *, sop_class_uid: str, at_root: bool) -> str:
    """D, Z or X: what must be there. In items, and in objects that the table does not know, it takes the most, D."""
    known = table()["classes"].get(sop_class_uid)
    if known is None or not at_root:
        return "D"
    return next((code for code in ("D", "Z") if keyword in known[code]), "X")


def _with_a_choice() -> frozenset[str]:
    tags = (int(tag, 16) for tag, row in rows().items() if "/" in row.basic and "x" not in tag)
    return frozenset(keyword_for_tag(tag) for tag in tags if dictionary_has_tag(tag))


if __name__ == "__main__":
    REQUIRED_FILE.write_text(json.dumps(made_table(), separators=(",", ":")) + "\n")
