"""What a capture costs in CPU, and what stays in memory; writes docs/results/cost.md.

    .venv/bin/python benchmarks/cost.py [--captures 1000] [--verified 1000,10000,100000] [--collected 1000,10000]

CPU: the campaign of benchmarks/scale.py, one collector with one board and four with four, on PostgreSQL and an S3
server; what each process has used of the CPU, as the kernel counts it, without what a collector takes to start.
Memory: the peak of `workbench dataset verify`, of data sets of small files, and of `workbench collect` with the
emulator in its process. CPU and memory do not depend much on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "workbench"), str(Path(__file__).parent)]

from fake_isp import FakeIsp, make_raw, make_set  # noqa: E402
from kills import END_S, free_port, make_raws  # noqa: E402
from measures import clocks  # noqa: E402
from postgresql_server import PostgresqlServer  # noqa: E402
from s3_server import S3Server  # noqa: E402
from scale import collect, lab_on, line, paragraph, serve  # noqa: E402
from tables_json import RESULTS, as_json  # noqa: E402

from drivers.splits import Split  # noqa: E402
from workbench.lab.dataset import Dataset  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
FIRST = 40
"""Captures made before what is measured, so that all RAWs are in the data set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=int, default=1000)
    parser.add_argument("--verified", default="1000,10000,100000")
    parser.add_argument("--collected", default="1000,10000")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cost-") as name:
        folder = Path(name)
        (raws := folder / "raws").mkdir()
        make_raws(raws)
        spent = [cpu(folder / f"{count}", raws, arguments.captures, count) for count in (1, 4)]
        verified = {n: verify_peak(folder / f"v{n}", n) for n in map(int, arguments.verified.split(","))}
        collected = {n: collect_peak(folder / f"c{n}", raws, n) for n in map(int, arguments.collected.split(","))}
    page = RESULTS / "cost.md"
    lines = [
        "# What a capture costs",
        "",
        "    .venv/bin/python benchmarks/cost.py",
        "",
        *paragraph(
            f"On a machine of {os.cpu_count()} cores, which others used too (load before {load:.1f}); PostgreSQL 15",
            "with fsync off, rclone's server of S3.",
        ),
        *paragraph(
            f"{arguments.captures:,} captures of 32×32 RAWs, `sim20` taking 50 ms a frame, on PostgreSQL and S3: the",
            "CPU time of each, in milliseconds a capture, without the start of a collector",
            f"({spent[0]['start']:.1f} s):",
        ),
        line("", "collectors", "boards", "PostgreSQL", "object store", "all"),
        line(*["---"] * 6),
    ]
    for label, one in zip(("one collector, one board", "four and four"), spent, strict=True):
        parts = [one[key] for key in ("collectors", "boards", "PostgreSQL", "object store")]
        lines.append(line(label, *(f"{x:.2f}" for x in (*parts, sum(parts)))))
    lines += [
        "",
        *paragraph(
            "Peak memory of a whole process: `dataset verify` of captures with small files, `collect` with `sim:sim20`",
            "into an empty data set:",
        ),
        line("", "captures", "MB"),
        line(*["---"] * 3),
        *(line("`dataset verify`", f"{n:,}", f"{peak:.0f}") for n, peak in verified.items()),
        *(line("`collect`", f"{n:,}", f"{peak:.0f}") for n, peak in collected.items()),
        "",
        *paragraph(
            "`verify` has a page of rows in memory at a time; `collect` has the plan of its campaign besides, which",
            "grows with the captures asked for.",
        ),
    ]
    page.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    page.with_suffix(".json").write_text(as_json(page), encoding="utf-8", newline="\n")


# CPU.


def times(pid: int) -> tuple[int, float, float]:
    """The parent of a process, its own seconds of the CPU, and those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, ended = (sum(map(int, fields[i : i + 2])) / TICKS for i in (11, 13))
    return int(fields[1]), own, ended


def tree(pid: int) -> float:
    """Seconds of the CPU of a process and its children."""
    _, own, ended = times(pid)
    total = own + ended
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent, own, _ = times(int(path.name))
            total += own * (parent == pid)
    return total


@contextlib.contextmanager
def servers() -> Iterator[tuple[PostgresqlServer, S3Server]]:
    postgresql, objects = PostgresqlServer(), S3Server()
    before = dict(os.environ)
    os.environ |= objects.environment
    try:
        yield postgresql, objects
    finally:
        os.environ.clear()
        os.environ.update(before)
        objects.remove()
        postgresql.remove()


def cpu(folder: Path, raws: Path, captures: int, count: int) -> dict[str, float]:
    """Milliseconds a capture of the CPU, by who used them; and the seconds that a collector takes to start."""
    ports = [free_port() for _ in range(count)]
    with servers() as (postgresql, objects):
        url = postgresql.new_database()
        hosts = [lab_on(folder / str(i), url, "s3://bucket/lab") for i in range(count)]
        server = int((postgresql.folder / "data" / "postmaster.pid").read_text().split()[0])
        devices = [subprocess.Popen(serve(port), stdout=subprocess.DEVNULL) for port in ports]

        def used() -> dict[str, float]:
            return {
                "boards": sum(times(device.pid)[1] for device in devices),
                "PostgreSQL": tree(server),
                "object store": times(objects.process.pid)[1],
            }

        def run(total: int) -> float:
            before = os.times()
            commands = [collect(lab, raws, total, port) for lab, port in zip(hosts, ports, strict=True)]
            running = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for words in commands]
            if any(process.wait() for process in running):
                raise SystemExit("a collector failed")
            after = os.times()
            return after.children_user + after.children_system - before.children_user - before.children_system

        try:
            run(FIRST)
            start = run(FIRST)
            before, spent = used(), run(captures)
            after = used()
        finally:
            for device in devices:
                device.kill()
                device.wait()
    made = (captures - FIRST) / 1000
    result = {"collectors": (spent - start) / made, "start": start / count}
    result |= {who: (seconds - before[who]) / made for who, seconds in after.items()}
    print(count, result, flush=True)
    return result


# Memory.


def peak(*words: str) -> float:
    """The largest memory of a process of the workbench, in MB."""
    found = clocks.workbench(*words, deadline_s=END_S).peak_mb
    print(" ".join(words[:2]), f"{found:.0f} MB", flush=True)
    return found


def verify_peak(lab: Path, captures: int) -> float:
    device, flush = FakeIsp(), os.fsync
    os.fsync = lambda _: None  # the files are to be read again, not to outlive the machine
    try:
        with Dataset.open(lab, create=True) as dataset:
            dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")
            for start in range(0, captures, 500):
                made = [device.process(make_raw(0), make_set(i)) for i in range(start, min(start + 500, captures))]
                dataset.add_captures(device.info(), made, purpose="collect")
    finally:
        os.fsync = flush
    return peak("dataset", "verify", "--lab", str(lab))


def collect_peak(lab: Path, raws: Path, captures: int) -> float:
    return peak("collect", "--device", "sim:sim20", "--raws", str(raws), "--captures", str(captures), "--lab", str(lab))


if __name__ == "__main__":
    main()
