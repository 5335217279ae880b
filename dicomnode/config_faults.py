"""What is wrong in the admin's files, in words: file, line, key, what was expected, and what was perhaps meant."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dicomnode.errors import ConfigFault

Location = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(?P<array>\[)?\[\s*(?P<names>[^\]]+?)\s*\]")
_KEY = re.compile(r"""\s*(?P<names>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_NAME = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_FENCE = re.compile(r"'''|\"\"\"")


class TomlFile:
    """One of the admin's files, read."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigFault when the file is not there or is not TOML."""
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
            self.tables: dict[str, Any] = tomllib.loads(self.text)
        except FileNotFoundError:
            raise ConfigFault(path, "", "the file is missing; `dicomnode` needs it in the config folder") from None
        except OSError as fault:
            raise ConfigFault(path, "", f"the file cannot be read: {fault.strerror}") from fault
        except UnicodeDecodeError as fault:
            raise ConfigFault(path, "", f"the file is not UTF-8 text (byte {fault.start})") from fault
        except tomllib.TOMLDecodeError as fault:
            where = re.search(r"line (\d+)", str(fault))
            raise ConfigFault(f"{path}:{where.group(1)}" if where else path, "", f"not TOML: {fault}") from fault

    def fault(self, location: Location, reason: str) -> ConfigFault:
        """The fault at that key, with its line where it can be found."""
        line = line_of(self.text, location)
        return ConfigFault(f"{self.path}:{line}" if line else self.path, key_in_words(location), reason)


def line_of(text: str, location: Location) -> int | None:
    """The line of the key, or of the nearest table around it; None when neither is written out."""
    best: tuple[int, int] | None = None
    table: Location = ()
    arrays: dict[Location, int] = {}
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        if fence:
            fence = "" if fence in line else fence
            continue
        place: Location | None = None
        if header := _HEADER.match(line):
            names = _names(header["names"])
            if header["array"]:
                arrays[names] = arrays.get(names, -1) + 1
            table = place = (*names, arrays[names]) if header["array"] else names
        elif key := _KEY.match(line):
            place = (*table, *_names(key["names"]))
        fences = _FENCE.findall(line)
        if fences and line.count(fences[0]) % 2:
            fence = fences[0]
        shared = min(len(place), len(location)) if place else 0
        if place and shared and location[:shared] == place[:shared] and (best is None or shared > best[0]):
            best = (shared, number)
    return None if best is None else best[1]


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in _NAME.findall(dotted))


def key_in_words(location: Location) -> str:
    """As an admin counts: `peers.pacs.port`, `rules[1].when` is the first rule's condition."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def known_keys(model: type[BaseModel]) -> list[str]:
    """The keys of a table as they are written in TOML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the nearest known word, or the known words themselves when there are few; ready to be appended."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def faults_of(
    error: ValidationError, file: TomlFile, models: Sequence[tuple[Location, type[BaseModel]]]
) -> list[ConfigFault]:
    """One fault for each mistake that pydantic found. models: table -> its model; "*" stands for any name or number."""
    found = []
    errors = [(tuple(part for part in one["loc"] if part != "[key]"), one) for one in error.errors()]
    for location, one in errors:
        if any(other[: len(location)] == location and other != location for other, _ in errors):
            continue  # only says that something inside is wrong, and that is said by itself
        found.append(file.fault(location, _reason(one, location, models)))
    return found


def _reason(one: Any, location: Location, models: Sequence[tuple[Location, type[BaseModel]]]) -> str:
    if one["type"] == "extra_forbidden":
        model = next((model for table, model in models if _is_table(location[:-1], table)), None)
        return "unknown key" + did_you_mean(str(location[-1]), known_keys(model) if model else ())
    if one["type"] == "missing":
        model = next((model for table, model in models if _is_table(location[:-1], table)), None)
        fields = {} if model is None else {field.alias or name: field for name, field in model.model_fields.items()}
        field = fields.get(str(location[-1]))
        return f"is missing: {field.description}" if field is not None else "is missing"
    if one["type"] in ("value_error", "assertion_error"):
        return str(one["msg"]).partition(", ")[2]
    given = repr(one["input"])
    if "password" in key_in_words(location):
        given = "what is written there"
    expected = re.sub(r"^\w+ should", "should", str(one["msg"]))
    return f"{expected}, not {given if len(given) <= 60 else given[:59] + '…'}"


def _is_table(location: Location, table: Location) -> bool:
    return len(location) == len(table) and all(
        wanted in ("*", part) for part, wanted in zip(location, table, strict=True)
    )


def joined(faults: Sequence[ConfigFault]) -> ConfigFault:
    """One fault that says all of them, a line each; file and key are those of the first."""
    first = faults[0]
    return ConfigFault(first.file, first.key, "\n".join([first.reason, *map(str, faults[1:])]))
