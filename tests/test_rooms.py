"""The floor plan: which room may know which library and which other room, how long a file is, and its mirror."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dicomnode", "inference", "storage")
SOURCES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts
)
LONGEST = 400

LIBRARY_HOMES = {
    "torch": ("inference",),
    "safetensors": ("inference",),
    "scipy": ("inference", "dicomnode/phantoms.py"),
    "skimage": ("inference",),
    "sqlalchemy": ("storage",),
    "alembic": ("storage",),
    "pydicom": ("dicomnode",),
    "pynetdicom": (
        "dicomnode/receive.py",
        "dicomnode/fast_message.py",
        "dicomnode/fast_store.py",
        "dicomnode/fast_server.py",
        "dicomnode/negotiation.py",
        "dicomnode/contexts.py",
        "dicomnode/query_retrieve_scp.py",
        "dicomnode/query_retrieve_scu.py",
        "dicomnode/commitment_call.py",
        "dicomnode/commitment_service.py",
    ),
    "highdicom": ("dicomnode/companions", "dicomnode/iod_tables.py"),
    "PIL": ("dicomnode/companions", "dicomnode/demo", "inference/training/curves.py"),
    "dbos": ("dicomnode/engine.py",),
    "cel": ("dicomnode/expressions.py", "dicomnode/rules.py"),
    "typer": ("dicomnode/cli",),
    "obstore": ("storage/object_store.py",),
    "prometheus_client": ("dicomnode/metrics.py",),
}
RIVER = ("receive", "gather", "route", "work", "send")
ROOTS = ("node", "reception", "receiver", "crew", "sweep", "dispatch", "worker", "cli", "demo", "__main__", "demo_page")
"""The files that join rooms: the composition roots, the command line and the demonstration."""


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module a file imports, and whether only for the type checker."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in typing_only
            for name in node.names:
                yield f"{node.module}.{name.name}", id(node) in typing_only


def room(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=room)
def test_every_library_has_one_home(path: Path) -> None:
    for module, typing_only in imports_of(path):
        homes = LIBRARY_HOMES.get(module.partition(".")[0])
        if homes is not None and not typing_only:
            assert room(path).startswith(homes), f"{room(path)} imports {module}; its home is {', '.join(homes)}"


@pytest.mark.parametrize("path", SOURCES, ids=room)
def test_inference_and_storage_are_leaves_that_never_meet(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    foreign = {"inference": ("dicomnode", "storage"), "storage": ("dicomnode", "inference", "numpy")}.get(package, ())
    for module, _ in imports_of(path):
        assert not module.startswith(foreign) or not foreign, f"{room(path)} imports {module}"


@pytest.mark.parametrize("name", RIVER)
def test_rooms_of_the_river_never_import_each_other(name: str) -> None:
    others = {f"dicomnode.{other}" for other in RIVER if other != name} | {f"dicomnode.{root}" for root in ROOTS}
    for module, typing_only in imports_of(ROOT / "dicomnode" / f"{name}.py"):
        assert typing_only or module not in others, f"{name} imports {module}"


def test_no_room_of_the_river_knows_the_export_or_de_identification() -> None:
    beside = ("dicomnode.deidentify", "dicomnode.export", "dicomnode.cli_export")
    may = ("dicomnode/deidentify/", "dicomnode/export", "dicomnode/cli_export.py", "dicomnode/conformance/")
    for path in SOURCES:
        for module, _ in imports_of(path):
            if room(path) == "dicomnode/cli.py" and module.startswith("dicomnode.cli_export"):
                continue
            assert not module.startswith(beside) or room(path).startswith(may), f"{room(path)} imports {module}"


def test_only_the_work_loads_derives_and_runs_pipelines() -> None:
    allowed = ("produce.py", "input_series.py", "load.py", "derive.py", "demo.py", "phantoms.py", "gate/", "verify/")
    for path in (ROOT / "dicomnode").rglob("*.py"):
        place = str(path.relative_to(ROOT / "dicomnode"))
        for module, typing_only in imports_of(path):
            if module in ("dicomnode.load", "dicomnode.derive", "inference.pipeline.run_pipeline") and not typing_only:
                assert place.startswith(allowed), f"{place} imports {module}"


def test_nothing_imports_training_and_physics_knows_no_pipeline() -> None:
    for path in SOURCES:
        for module, _ in imports_of(path):
            if not room(path).startswith("inference/training"):
                assert not module.startswith("inference.training"), f"{room(path)} imports {module}"
            if room(path).startswith(("inference/physics", "inference/networks")):
                assert not module.startswith("inference.pipelines"), f"{room(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=room)
def test_a_file_stays_under_the_wall_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST, f"{room(path)} has {text.count(chr(10))} lines: look for the second verb"
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring and docstring.splitlines()[0].endswith((".", ":")), f"{room(path)} does not say what it is for"


@pytest.mark.parametrize("path", SOURCES, ids=room)
def test_every_source_file_has_its_mirror_test(path: Path) -> None:
    if path.stem in ("__init__", "__main__", "env"):
        return
    relative = path.relative_to(ROOT)
    mirror = ROOT / "tests" / relative.parent / f"test_{relative.name}"
    assert mirror.is_file(), f"{relative} has no {mirror.relative_to(ROOT)}"


def test_packages_hold_a_docstring_and_no_code() -> None:
    for path in SOURCES:
        if path.name == "__init__.py":
            assert len(ast.parse(path.read_text()).body) == 1, f"{room(path)} holds code"
