"""The standard's module tables of the CT, PET and MR image objects, cut to what the node needs.

`iod_tables.json` is made from the tables highdicom carries (22.6 MB, too much at run time) by

    python -m dicomnode.iod_tables
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TABLES_FILE = Path(__file__).with_suffix(".json")
IODS = {"CT": "ct-image", "PT": "positron-emission-tomography-image", "MR": "mr-image"}


def made_tables() -> dict[str, Any]:
    """The tables as they follow from the installed highdicom: an object's modules, a module's root attributes."""
    found = find_spec("highdicom")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / "_standard"
    modules_of = json.loads((folder / "iod_module_map.json").read_text())
    attributes_of = json.loads((folder / "module_attribute_map.json").read_text())
    iods = {
        modality: {module["key"]: [module["usage"], module["ie"]] for module in modules_of[iod]}
        for modality, iod in IODS.items()
    }
    modules = {
        module: {row["keyword"]: row["type"] for row in attributes_of[module] if not row["path"]}
        for module in sorted({module for iod in iods.values() for module in iod})
    }
    return {"made_from": f"highdicom {version('highdicom')}", "iods": iods, "modules": modules}


@cache
def tables() -> Mapping[str, Any]:
    """The committed tables."""
    content: Mapping[str, Any] = json.loads(TABLES_FILE.read_text())
    return content


if __name__ == "__main__":
    TABLES_FILE.write_text(json.dumps(made_tables(), indent=None, separators=(",", ":")) + "\n")
