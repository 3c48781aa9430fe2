"""Measures speed and memory, in one run: a table with medians and spread, beside what is to compare with.

    make bench                                           # about ten minutes; docs/results/bench.md and bench.json
    .venv/bin/python benchmarks/bench.py --quick         # about one minute; prints only
    .venv/bin/python benchmarks/bench.py --only storing  # some of the groups; prints only

Says what got slower since the table that stands in the results.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import tables_json
from measures.size import FULL, QUICK, Size
from measures.table import Row, markdown

GROUPS = ("startup", "prediction", "loop", "emulator", "collection", "storing", "training")
RESULT = tables_json.RESULTS / "bench.md"
PACKAGES = ("numpy", "torch", "onnxruntime", "opencv-python-headless", "rawpy", "pyzmq", "sqlalchemy")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples of little; nothing is written")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="groups; nothing is written")
    arguments = parser.parse_args()
    whole = not arguments.quick and set(arguments.only) == set(GROUPS)
    begin, load = time.monotonic(), os.getloadavg()[0]
    rows, failed = measured(arguments.only, QUICK if arguments.quick else FULL)
    told = setting(load, time.monotonic() - begin)
    print(told + "\n" + markdown(rows))
    for line in slower(rows, RESULT.with_suffix(".json")):
        print(line)
    if whole and not failed:
        RESULT.write_text(document(told, rows), encoding="utf-8", newline="\n")
        RESULT.with_suffix(".json").write_text(tables_json.as_json(RESULT), encoding="utf-8", newline="\n")
        print(f"written: {RESULT} and {RESULT.with_suffix('.json').name}")
    return 1 if failed else 0


def measured(groups: Sequence[str], size: Size) -> tuple[list[Row], bool]:
    """The rows of the groups, and whether one could not be measured; progress goes to stderr."""
    rows, failed = list[Row](), False
    for group in groups:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{group}-") as folder:
            try:
                for row in importlib.import_module(f"measures.{group}").rows(size, Path(folder)):
                    print(f"{group}: {' | '.join(row.cells())}", file=sys.stderr, flush=True)
                    rows.append(row)
            except Exception as error:  # the other groups are measured all the same
                print(f"{group}: not measured: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                failed = True
        print(f"{group}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return rows, failed


def slower(rows: Sequence[Row], before: Path) -> list[str]:
    """What got slower or larger since the table of an earlier run, a line each."""
    if not before.is_file():
        return ["no earlier table to compare with"]
    tables = json.loads(before.read_text(encoding="utf-8"))["tables"]
    known = {
        row[0]["text"]: dict(zip(table["columns"], row, strict=True))
        for table in tables
        if table["columns"][0] == "measure"
        for row in table["rows"]
    }
    compared = [row for row in rows if row.measure in known]
    worse = [f"worse: {text}" for row in compared if (text := row.worse_than(known[row.measure]))]
    return [*worse, f"{len(compared)} of {len(rows)} measures compared with {before.name}: {len(worse)} worse"]


def setting(load: float, seconds: float) -> str:
    """Where and with what it was measured, as Markdown."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        "| machine | |\n| --- | --- |\n"
        f"| processor | {processor()}, {os.cpu_count()} cores, {byte_products()} |\n"
        f"| memory | {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB |\n"
        f"| system | {platform.system()} {platform.release()}, Python {platform.python_version()} |\n"
        f"| versions | {versions}, SQLite {sqlite3.sqlite_version} |\n"
        f"| load of others before | {load:.1f} (mean of runnable processes over a minute) |\n"
        f"| took | {seconds:.0f} s |\n"
    )


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def byte_products() -> str:
    """Whether the processor multiplies bytes, of which the speed of 8-bit networks is."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "byte products unknown"
    found = sorted(words & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
    return f"byte products: {', '.join(found) or 'none'}"


def document(told: str, rows: Sequence[Row]) -> str:
    """The page of the results."""
    return f"""# Speed and memory

    make bench

{told}
A figure is the median of its samples, with the least and the largest. What is beside it was measured in the same run,
in turns with it, and the ratio is that of such pairs: on a machine that others use too, ratios and CPU seconds say more
than seconds of the wall clock. Frames and weights are made up; what they cost is that of real ones of their size.

{markdown(rows)}
- Networks: sizes of the recipes, input sides as named. `sim20` is the emulated ISP; a device that takes so many
  milliseconds or echoes answers with a JPEG made before, with a comment that tells RAW and codes. The device alone is
  asked in its own process, without a link.
- In 8 bits the device's pictures lose less than 0.05 dB against float32: [export.md](export.md).
- Collecting is that of a campaign under way, after 24 captures, by the device's clock; whole processes and peak memory
  are of processes of their own. The device waits where it has no request to work on; what is
  left of its time it makes frames, and takes requests and sends answers, which the device alone does not.
  [collecting.md](collecting.md) takes apart what bounds it.
- A capture is stored and found in batches of 64; the rows of the large data set are made by SQL.
"""


if __name__ == "__main__":
    sys.exit(main())
