"""What editors and readers are told of the admin's files, made from the models: JSON schemas and reference tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dicomnode.audit_document import audit_document
from dicomnode.audit_settings import AuditExportSettings
from dicomnode.need_settings import NeedTable, RetrieveTable
from dicomnode.peer import PeerTable
from dicomnode.reasons import REASONS
from dicomnode.settings import (
    NodeFile,
    NodeSettings,
    PipelineTable,
    RetentionSettings,
    RulesFile,
    RuleTable,
    TlsSettings,
    WorkerSettings,
)
from dicomnode.store_settings import StoreSettings

TABLES: dict[str, type[BaseModel]] = {
    "[node]": NodeSettings,
    "[peers.NAME]": PeerTable,
    "[[workers]]": WorkerSettings,
    "[pipelines.NAME]": PipelineTable,
    "[retention]": RetentionSettings,
    "[tls]": TlsSettings,
    "[store]": StoreSettings,
    "[audit_export]": AuditExportSettings,
    "[[rules]]": RuleTable,
    "[needs.NAME]": NeedTable,
    "[[retrieve]]": RetrieveTable,
}
_BLOCK = re.compile(r"(<!-- keys of (?P<table>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON schema of node.toml and rules.toml."""
    return {
        "node.schema.json": NodeFile.model_json_schema(by_alias=True),
        "rules.schema.json": RulesFile.model_json_schema(by_alias=True),
    }


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it lies in the config folder."""
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def table_of(model: type[BaseModel]) -> str:
    """The keys of a table, one Markdown row each: key, kind, default, meaning."""
    properties = model.model_json_schema(by_alias=True)["properties"]
    rows = ["| key | kind | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        key = field.alias or name
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{key}` | {_kind(properties[key])} | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    if field.default is None:
        return "absent"
    return f"`{json.dumps(field.default)}`"


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return next(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(f"`{one}`" for one in schema["enum"])
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} texts"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    kind = words[schema["type"]]
    low, high = schema.get("minimum"), schema.get("maximum")
    return (
        f"{kind} {low} to {high}" if high is not None else f"{kind} above 0" if "exclusiveMinimum" in schema else kind
    )


def with_current_tables(document: str) -> str:
    """A document whose blocks between `keys of TABLE` and `end` comments hold the keys as the models have them."""
    return _BLOCK.sub(lambda block: f"{block[1]}{table_of(TABLES[block['table']])}{block[3]}", document)


def reasons_document() -> str:
    """docs/REASONS.md: every reason code and what to do about it."""
    rows = [f"| `{code}` | {advice} |" for code, advice in REASONS.items()]
    head = (
        "# Why a series is refused\n\n"
        "`dicomnode jobs` and `dicomnode audit` give one of these codes and a sentence that says what was found. The "
        "codes never change\ntheir meaning. Made from `dicomnode/reasons.py` by `rewrite` of "
        "`dicomnode/config_reference.py`.\n\n"
        "| code | what to do |\n| --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


def rewrite(root: Path) -> list[Path]:
    """Writes schemas, tables of the config reference and the list of reasons where they are not current."""
    wanted = {root / "config" / name: schema_text(schema) for name, schema in schemas().items()}
    reference = root / "docs" / "CONFIG.md"
    wanted[reference] = with_current_tables(reference.read_text(encoding="utf-8"))
    wanted[root / "docs" / "REASONS.md"] = reasons_document()
    wanted[root / "docs" / "AUDIT.md"] = audit_document()
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8")
    return changed
