"""`make bench`: rows that are measured, the table that they make, and the comparison with an earlier one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def loaded(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{Path(file).stem}", BENCHMARKS / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


table: Any = loaded("measures/table.py")
clocks: Any = loaded("measures/clocks.py")
tables_json: Any = loaded("tables_json.py")


def cells(row: Any) -> dict[str, dict[str, Any]]:
    """The row as the JSON of an earlier run gives it."""
    (found,) = tables_json.tables_of(table.markdown([row]))
    return dict(zip(found["columns"], found["rows"][0], strict=True))


def test_a_row_has_medians_spread_ratio_and_bar() -> None:
    row = table.Row("a step", "s", [3.0, 1.0, 2.0], "the old one", [1.0, 1.0, 4.0], table.Bar(0.9, "ratio"))
    told = cells(row)
    assert told["figure"]["text"] == "2 [1, 3]"
    assert told["ratio"]["text"] == "1 [0.5, 3]"
    assert (told["bar"]["text"], told["reached"]["text"]) == ("≤ 0.9 ×", "no")
    fast = table.Row("a rate", "frames/s", [12_345.0], "alone", [10_000.0], table.Bar(0.95, "ratio"), True)
    assert cells(fast)["figure"] == {"text": "12,345", "value": 12345.0}
    assert (cells(fast)["bar"]["text"], cells(fast)["reached"]["text"]) == ("≥ 0.95 ×", "yes")


@pytest.mark.parametrize(
    ("more_is_better", "now", "worse"),
    [(False, [1.3, 1.4], True), (False, [1.05, 1.3], False), (False, [0.5, 0.6], False), (True, [0.5, 0.6], True)],
)
def test_what_got_worse_is_told(more_is_better: bool, now: list[float], worse: bool) -> None:
    before = cells(table.Row("a figure", "s", [0.9, 1.0, 1.1], more_is_better=more_is_better))
    row = table.Row("a figure", "s", now, more_is_better=more_is_better)
    assert row.worse_than(before).startswith("a figure: figure") is worse


def test_a_process_is_measured_and_its_failure_told() -> None:
    taken = clocks.process([sys.executable, "-c", "b = bytearray(80_000_000)"])
    assert taken.peak_mb > 80
    assert taken.cpu > 0
    assert taken.wall > 0
    with pytest.raises(RuntimeError, match="no such thing"):
        clocks.process([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_the_bench_measures_a_group() -> None:
    results = BENCHMARKS.parent / "docs" / "results"
    before = {path: path.read_bytes() for path in results.glob("bench.*")}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "--quick", "--only", "startup"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "| `workbench --help`, CPU |" in done.stdout
    assert "| versions | numpy" in done.stdout
    assert {path: path.read_bytes() for path in results.glob("bench.*")} == before  # a part writes nothing


def test_a_group_that_cannot_be_measured_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import bench, json\n"
        "from measures import startup\n"
        "from measures.table import Row\n"
        "startup.rows = lambda size, folder: iter([Row('kept', 's', [1.0])])\n"
        "rows, failed = bench.measured(['absent', 'startup'], bench.QUICK)\n"
        "print(json.dumps([[row.measure for row in rows], failed]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [["kept"], True], done.stderr
    assert "absent: not measured: ModuleNotFoundError" in done.stderr
