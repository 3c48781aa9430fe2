"""The tables under docs/results and those of the README stand beside them as JSON, and both say the same."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("tables_json", ROOT / "benchmarks" / "tables_json.py")
assert _SPEC is not None
assert _SPEC.loader is not None
tables_json = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tables_json)
DOCUMENTS = sorted(tables_json.RESULTS.glob("*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.stem)
def test_a_documents_tables_stand_beside_it(document: Path) -> None:
    written = document.with_suffix(".json").read_text(encoding="utf-8")
    assert written == tables_json.as_json(document), "run benchmarks/tables_json.py"
    assert json.loads(written)["tables"]


def test_the_headline_is_that_of_the_readme() -> None:
    written = (tables_json.RESULTS / "headline.json").read_text(encoding="utf-8")
    assert written == tables_json.headline(), "run benchmarks/tables_json.py"
    sim20, sim32, free, other, rows = (table["rows"] for table in json.loads(written)["tables"][:5])
    assert [cell["value"] for cell in sim20[5][1:4]] == [0.76, 0.005, 0.54]
    assert sim20[5][3]["interval"] == [0.34, 0.76]
    assert [cell["value"] for cell in sim32[4][1:4]] == [0.19, 0.008, 0.47]
    assert [cell["value"] for cell in free[6][1:4]] == [1.99, 0.015, 0.82]
    assert free[6][4]["interval"] == [0.009, 0.032]
    assert [cell["value"] for cell in other[2][1:4]] == [0.2, -0.003, -0.41]
    assert [cell["value"] for cell in other[5][1:4]] == [1.0, -0.007, -1.12]
    assert [cell["value"] for cell in other[9][1:4]] == [3.69, 0.021, 1.93]
    assert rows[3][0]["text"] == "predicted from image, ISO and exposure"
    assert [cell["value"] for cell in rows[2][1:5]] == [22.27, 22.22, 21.46, 21.99]
    assert rows[2][5]["interval"] == [2.63, 3.89]


def test_numbers_intervals_and_signs_are_read() -> None:
    (table,) = tables_json.tables_of("Gain:\n\n| m | x |\n|---|---|\n| **a** | −1.5 [−2, +0.25] dB |\n| b | 4,000 |\n")
    assert table["above"] == "Gain:"
    assert table["columns"] == ["m", "x"]
    assert table["rows"][0][1] == {"text": "−1.5 [−2, +0.25] dB", "value": -1.5, "interval": [-2.0, 0.25]}
    assert table["rows"][1][1]["value"] == 4000.0
