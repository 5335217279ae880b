"""What the node needs at run time may be used by anybody: no GPL in it, LGPL only as a library of its own."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

LGPL_LIBRARIES = {"psycopg", "psycopg-binary"}
"""PostgreSQL's driver, which dbos needs: unchanged, and replaceable as a package of its own (LGPL-3.0)."""


def run_time_packages(name: str, found: dict[str, Distribution], extras: frozenset[str] = frozenset()) -> None:
    """Every installed distribution that a package needs when it runs, its own needs included."""
    key = name.lower().replace("_", "-")
    if key in found:
        return
    try:
        found[key] = distribution(name)
    except PackageNotFoundError:  # for another platform
        return
    for line in found[key].requires or []:
        wanted = Requirement(line)
        markers = [{"extra": extra} for extra in ("", *extras)]
        if wanted.marker is None or any(wanted.marker.evaluate(marker) for marker in markers):
            run_time_packages(wanted.name, found, frozenset(wanted.extras))


def licence(package: Distribution) -> str:
    """What a package's metadata says of its licence, in its first line and classifiers."""
    metadata = package.metadata
    said = [*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or [])]
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
    return " | ".join([line.splitlines()[0] for line in said if line] + classifiers)


def test_nothing_the_node_needs_is_under_the_gpl_and_no_gpl_codec_is_asked_for() -> None:
    found: dict[str, Distribution] = {}
    run_time_packages("dicom-ai-node", found)
    assert {"pydicom", "pyjpegls", "pylibjpeg-openjpeg", "python-gdcm"} <= set(found)
    assert "pylibjpeg-libjpeg" not in found
    for name, package in found.items():
        words = licence(package)
        assert words, f"{name} does not say its licence"
        if name not in LGPL_LIBRARIES:
            assert "GPL" not in words and "General Public" not in words, f"{name}: {words}"


def test_the_libraries_under_the_lgpl_are_those_that_are_named() -> None:
    found: dict[str, Distribution] = {}
    run_time_packages("dicom-ai-node", found)
    assert {name for name, package in found.items() if "LGPL" in licence(package)} == LGPL_LIBRARIES & set(found)
