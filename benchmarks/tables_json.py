"""Writes the tables of every document under ``docs/results`` as JSON beside it, for machines and later comparisons.

    python benchmarks/tables_json.py

A cell stays text; its first number and the interval in brackets behind it stand beside it. What no machine wrote down
when it was measured is so at least what the document says, and a test holds both together.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
_NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?")
_INTERVAL = re.compile(r"\[\s*([-+−]?[\d.,]+)\s*,\s*([-+−]?[\d.,]+)\s*\]")


def tables_of(text: str) -> list[dict[str, Any]]:
    """The tables of a Markdown text: what stands above each, its columns and rows."""
    tables, above, lines = [], "", text.splitlines()
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.lstrip().startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
            continue
        if len(rows) > 2:
            columns, body = rows[0], rows[2:]
            tables.append({"above": above, "columns": columns, "rows": [[_cell(c) for c in row] for row in body]})
        rows = []
        if line.strip():
            above = line.strip().lstrip("#").strip()
    return tables


def _cell(text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"text": text.replace("**", "")}
    if number := _NUMBER.match(cell["text"]):
        cell["value"] = _float(number.group())
    if interval := _INTERVAL.search(text):
        cell["interval"] = [_float(end) for end in interval.groups()]
    return cell


def _float(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def as_json(document: Path) -> str:
    """The tables of a document as JSON text."""
    tables = tables_of(document.read_text(encoding="utf-8"))
    data = {"format": 1, "document": document.name, "tables": tables}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def headline() -> str:
    """The figures of the README as JSON text, with what they are of."""
    section = (
        (RESULTS.parents[1] / "README.md")
        .read_text(encoding="utf-8")
        .split("## What it reached\n")[1]
        .split("\n## ")[0]
    )
    data = {
        "format": 1,
        "document": "README.md, What it reached",
        "frames": "first four tables 512x384 pixels, the others 128x128",
        "gained_by": [
            "3A on: noise reduction (SSIM), noise reduction and tone (aligned PSNR)",
            "everything free: white balance and gain, tone (PSNR), noise reduction (SSIM)",
            "LibRaw: exposure (PSNR), chromatic aberration (SSIM); reference ISP: white balance, gain and tone",
        ],
        "held": [
            "everything free: demosaic, sharpening, compression, luma and chroma noise reduction",
            "at 128x128: noise reduction, demosaic, sharpening, compression",
        ],
        "strongest_simple_rule": [
            "3A on: table over ISO, searched for SSIM or for aligned PSNR",
            "everything free: as-shot white balance, linear in ISO and light, searched for SSIM",
            "LibRaw, reference ISP: as-shot white balance, table over ISO for SSIM",
        ],
        "tables": tables_of(section),
        "text": " ".join(line for line in section.splitlines() if line and not line.startswith("|")),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the JSON of every document."""
    for document in sorted(RESULTS.glob("*.md")):
        document.with_suffix(".json").write_text(as_json(document), encoding="utf-8", newline="\n")
    RESULTS.joinpath("headline.json").write_text(headline(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
