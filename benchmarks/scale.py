"""Many collectors on one campaign, and a catalogue of a million rows; writes docs/results/scale.md.

    .venv/bin/python benchmarks/scale.py [--captures 2000] [--rows 1000000] [--only one,four,killed,catalogue]

The campaign: emulated boards (their frames take 50 ms), collectors, a PostgreSQL of Debian's programs and rclone as the
S3 object store, as the tests start them, all processes of this machine. First one collector with one board, then four
with four, then four with four while collectors and boards are killed (SIGKILL) and both servers end and start again.
Another size or other kills are kept apart: `--captures 20000 --kills 50,20,5 --only four,killed --kept
build/farm.json`. The catalogue: rows without files, added in bulk; then captures stored through the data set, and
`workbench dataset info`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError, ProgrammingError

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "workbench"), str(Path(__file__).parent)]

from fake_isp import FakeIsp, make_raw, make_set  # noqa: E402
from kills import END_S, Killed, free_port  # noqa: E402
from postgresql_server import PostgresqlServer  # noqa: E402
from s3_server import S3Server  # noqa: E402
from tables_json import RESULTS, as_json  # noqa: E402

from drivers.device import Capture  # noqa: E402
from drivers.frames import RawFrame  # noqa: E402
from drivers.raw.raw_files import save_npz  # noqa: E402
from drivers.splits import Split  # noqa: E402
from workbench.lab.dataset import Dataset  # noqa: E402
from workbench.lab.dataset.verify import verify  # noqa: E402

WORKBENCH = [sys.executable, "-m", "workbench.cli"]
BOARDS = 4
FRAME_MS = 50
KILLS = "10,4,2"
CAMPAIGN = ("one", "four", "killed")
AMID = 0.6
"""All kills and restarts fall while this share of the captures comes, each after equally many of them."""
BATCHES, BATCH = 20, 16
CREATED = "2026-01-01T00:00:00.000Z"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", default=KILLS, help="of collectors, of boards, and restarts of both servers")
    parser.add_argument("--only", default=",".join((*CAMPAIGN, "catalogue")))
    parser.add_argument("--kept", type=Path, default=ROOT / "build" / "scale.json", help="what was found, as JSON")
    arguments = parser.parse_args()
    kills = tuple(int(word) for word in arguments.kills.split(","))
    only = arguments.only.split(",")
    os.environ["OMP_NUM_THREADS"] = "1"
    begin, load = time.monotonic(), os.getloadavg()[0]
    kept, page = arguments.kept, RESULTS / "scale.md"
    found: dict[str, Any] = {}
    postgresql, objects = PostgresqlServer(), S3Server()
    os.environ |= objects.environment
    try:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            if parts := [part for part in CAMPAIGN if part in only]:
                found["captures"] = arguments.captures
                found["campaign"] = campaign(Path(folder), postgresql, objects, arguments.captures, parts, kills)
            if "catalogue" in only:
                found["rows"] = arguments.rows
                found["catalogue"] = [
                    catalogue(Path(folder) / kind, url, arguments.rows, postgresql)
                    for kind, url in (("SQLite", ""), ("PostgreSQL", postgresql.new_database()))
                ]
    finally:
        objects.remove()
        postgresql.remove()
    before: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    found["campaign"] = before.get("campaign", {}) | found.get("campaign", {})
    found = before | found
    found.setdefault("took", {})[arguments.only] = [round(time.monotonic() - begin), round(load, 1)]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, indent=1))
    if kept == parser.get_default("kept") and "catalogue" in found and set(CAMPAIGN) <= found["campaign"].keys():
        page.write_text(written(found), encoding="utf-8", newline="\n")
        page.with_suffix(".json").write_text(as_json(page), encoding="utf-8", newline="\n")


def lab_on(folder: Path, url: str, blobs: str = "") -> Path:
    folder.mkdir(parents=True)
    lines = [f'database = "{url}"'] * bool(url) + [f'blobs = "{blobs}"'] * bool(blobs)
    (folder / "lab.toml").write_text("\n".join(["[storage]", *lines, ""]))
    return folder


# The campaign.


def serve(port: int) -> list[str]:
    return [*WORKBENCH, "sim", "serve", "--profile", "sim20", "--zmq", f"127.0.0.1:{port}", "--frame-ms", str(FRAME_MS)]


def collect(lab: Path, raws: Path, captures: int, port: int) -> list[str]:
    url = f"zmq://127.0.0.1:{port}"
    return [*WORKBENCH, "collect", "--device", url, "--raws", str(raws), "--captures", str(captures), "--lab", str(lab)]


def campaign(
    folder: Path,
    postgresql: PostgresqlServer,
    objects: S3Server,
    captures: int,
    parts: list[str],
    kills: tuple[int, ...],
) -> dict[str, Any]:
    raws = folder / "raws"
    raws.mkdir()
    for i in range(40):
        mosaic = np.random.default_rng(i).integers(64, 1023, (32, 32), dtype=np.uint16)
        save_npz(raws / f"{i:02d}.npz", RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0))
    ports = [free_port() for _ in range(BOARDS)]
    result: dict[str, Any] = {}

    def labs(name: str, url: str, count: int) -> list[Path]:
        """As of so many hosts: each collector has a lab folder of its own, all with the same servers."""
        return [lab_on(folder / name / str(i), url, f"s3://bucket/{name}") for i in range(count)]

    for name, count in (("one", 1), ("four", BOARDS)):
        if name not in parts:
            continue
        url = postgresql.new_database()
        hosts = labs(name, url, count)
        with boards(ports[:count]):
            # The RAWs and the first captures, so that all boards are up and nothing is imported in what is timed.
            chance = random.Random(0)  # none is killed; one that ends with an error is started again
            until_done([Killed(collect(lab, raws, 40, p), 0, chance) for lab, p in zip(hosts, ports, strict=False)])
            begin = time.monotonic()
            running = [Killed(collect(lab, raws, captures, p), 0, chance) for lab, p in zip(hosts, ports, strict=False)]
            until_done(running)
            seconds = time.monotonic() - begin
        gave_up = sum(p.ended for p in running) - count
        result[name] = summary(hosts[0], captures)
        result[name] |= {"process_s": seconds, "rate": rate(hosts[0], 40), "gave_up": gave_up}
        print(name, result[name], flush=True)
    if "killed" in parts:
        url = postgresql.new_database()
        hosts = labs("killed", url, BOARDS)
        told = disturbed(hosts, url, raws, captures, ports, kills, postgresql, objects)
        result["killed"] = summary(hosts[0], captures) | told
        print("killed", result["killed"], flush=True)
    return result


@contextlib.contextmanager
def boards(ports: list[int]) -> Iterator[None]:
    running = [subprocess.Popen(serve(port), stdout=subprocess.DEVNULL) for port in ports]
    try:
        yield
    finally:
        for board in running:
            board.kill()
            board.wait()


def rate(lab: Path, before: int) -> float:
    """Captures a second between the first and the last commit after so many captures."""
    with Dataset.open(lab) as dataset:
        times = [np.datetime64(c.created.rstrip("Z")) for c in dataset.captures()][before:]
    # Captures of one commit have its time: the first commit's are not counted, their making is not in the span.
    later = sum(t > times[0] for t in times)
    return float(later / ((times[-1] - times[0]) / np.timedelta64(1, "s")))


def disturbed(
    hosts: list[Path],
    url: str,
    raws: Path,
    captures: int,
    ports: list[int],
    kills: tuple[int, ...],
    postgresql: PostgresqlServer,
    objects: S3Server,
) -> dict[str, Any]:
    """Run a campaign to its end while all is killed; how often what was."""
    of_collectors, of_boards, of_servers = kills
    chance = random.Random(0)
    devices = [Killed(serve(port), 0, chance) for port in ports]
    running = [Killed(collect(lab, raws, captures, port), 0, chance) for lab, port in zip(hosts, ports, strict=True)]
    kinds = ["collector"] * of_collectors + ["board"] * of_boards + ["servers"] * of_servers
    chance.shuffle(kinds)
    events = [(AMID * captures * (i + 1) / len(kinds), kind) for i, kind in enumerate(kinds)]
    turns = {"collector": itertools.cycle(running), "board": itertools.cycle(devices)}
    begin = asked = time.monotonic()
    engine, total = create_engine(url, poolclass=NullPool), len(events)

    def meanwhile() -> None:
        nonlocal asked
        for device in devices:
            device.tick()
        if not events or time.monotonic() - asked < 0.5:
            return
        asked = time.monotonic()
        stored = 0
        # No table yet, or a server that starts.
        with contextlib.suppress(OperationalError, ProgrammingError), engine.connect() as connection:
            stored = connection.exec_driver_sql("SELECT count(*) FROM captures").scalar_one()
        if stored < events[0][0]:
            return
        _, kind = events.pop(0)
        if kind == "servers":
            postgresql.stop()
            postgresql.start()
            objects.stop()
            time.sleep(2)
            objects.start()
        else:
            victim = next(turns[kind])
            victim.left, victim.due = 1, 0.0
        print(f"{time.monotonic() - begin:4.0f} s, {stored} captures: {kind}, {total - len(events)}", flush=True)

    try:
        until_done(running, meanwhile)
    finally:
        for process in [*devices, *running]:
            process.process.kill()
            process.process.wait()
    return {
        "seconds": time.monotonic() - begin,
        "collectors_killed": sum(p.kills for p in running),
        "boards_killed": sum(p.kills for p in devices),
        "gave_up": sum(p.ended for p in running) - BOARDS,
        "restarts": of_servers - sum(kind == "servers" for _, kind in events),
    }


def until_done(running: list[Killed], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Start again what ends with an error or is killed, until all have ended well.

    Raises:
        SystemExit: they have not within an hour.
    """
    begin, done = time.monotonic(), [False] * len(running)
    while not all(done):
        done = [over or process.tick() for over, process in zip(done, running, strict=True)]
        meanwhile()
        if time.monotonic() - begin > END_S:
            raise SystemExit("not done")
        time.sleep(0.02)


def summary(lab: Path, captures: int) -> dict[str, Any]:
    with Dataset.open(lab) as dataset:
        records, problems = dataset.captures(), verify(dataset).problems
        uses = dataset.device_uses()
        return {
            "captures": len(records),
            "doubled": len(records) - len({(r.raw_hash, r.parameters_hash) for r in records}),
            "lost": captures - len(records),
            "asked": sum(use.asked for use in uses),
            "problems": len(problems),
            "digest": dataset.digest(),
        }


# The catalogue.


def catalogue(folder: Path, url: str, rows: int, postgresql: PostgresqlServer) -> dict[str, Any]:
    """Storing and `dataset info` at 1,000 rows and at so many."""
    lab = lab_on(folder, url) if url else folder
    result: dict[str, Any] = {"kind": folder.name}
    device, shot = FakeIsp(), 0
    with Dataset.open(lab, create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")

    def store() -> list[tuple[float, float]]:
        nonlocal shot
        seconds: list[tuple[float, float]] = []
        with Dataset.open(lab) as dataset:
            for batch in range(BATCHES + 2):
                made: list[Capture] = []
                for _ in range(BATCH):
                    made.append(device.process(make_raw(0), make_set(shot)))
                    shot += 1
                begin, cpu = time.perf_counter(), time.process_time()
                dataset.add_captures(device.info(), made, purpose="collect")
                if batch >= 2:
                    seconds.append(((time.perf_counter() - begin) / BATCH, (time.process_time() - cpu) / BATCH))
        return seconds

    there = 0
    for total in (1000, rows):
        with Dataset.open(lab) as dataset:
            begin = time.monotonic()
            fill(dataset, there, total)
            there = total
            if url:  # as the server does by itself in time
                postgresql.execute(url.partition("@/")[2].partition("?")[0], "VACUUM ANALYZE")
            else:
                with dataset.database.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            filled = time.monotonic() - begin
        before = store()
        infos = [timed("dataset", "info", "--lab", str(lab), "--json") for _ in range(4)]
        result[str(total)] = {
            "filled_s": filled,
            "store_ms": [1000 * wall for wall, _ in before],
            "store_cpu_ms": [1000 * cpu for _, cpu in before],
            "info_s": infos,
            "empty_s": timed("dataset", "--help"),
            "bytes": size(lab),
        }
        print(folder.name, total, result[str(total)], flush=True)
    return result


def fill(dataset: Dataset, first: int, last: int) -> None:
    """Rows of captures without files, as many as `collect` would have written; their seals are empty."""
    device, raw = FakeIsp().info(), dataset.raws()[0].hash
    with dataset.database.writing() as connection:
        dataset.add_device(connection, device, CREATED)
    codes = '\'{"gain": \' || (i - i / 1025 * 1025) || \', "level": 5, "mode": 1, "sharp": 0}\''
    for start in range(first, last, 50_000):
        end = min(start + 50_000, last)
        with dataset.database.writing() as connection:
            if connection.dialect.name == "sqlite":
                native: Any = connection.connection.driver_connection
                native.create_function("hashed", 1, lambda i: hashlib.sha256(str(i).encode()).hexdigest())
                h, as_json_ = "hashed", codes
                numbers = f"(WITH RECURSIVE n(i) AS (SELECT {start} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {end}) "
                numbers += "SELECT i FROM n)"
            else:
                h, as_json_, numbers = (
                    "pg_temp.hashed",
                    f"({codes})::json",
                    f"generate_series({start}, {end - 1}) AS n(i)",
                )
                connection.exec_driver_sql(
                    "CREATE OR REPLACE FUNCTION pg_temp.hashed(i int) RETURNS text LANGUAGE sql IMMUTABLE AS "
                    "$$ SELECT encode(sha256(convert_to(i::text, 'UTF8')), 'hex') $$"
                )
            for into in (
                f"blobs (hash, suffix, size) SELECT {h}(i), 'png', 200000",
                f"parameter_sets (hash, codes) SELECT {h}(-i - 1), {as_json_}",
                "captures (raw, device, parameters, repeat, output, read_back, serial, boot_id, frame, device_s, "
                f"total_s, purpose, created, workbench, seal) SELECT '{raw}', '{device.identity}', {h}(-i - 1), 0, "
                f"{h}(i), {as_json_}, 'unit 7', 'boot-1', i, 0.05, 0.06, 'collect', '{CREATED}', '0.1.0', '{'0' * 64}'",
            ):
                connection.exec_driver_sql(f"INSERT INTO {into} FROM {numbers}")


def timed(*words: str) -> tuple[float, float]:
    """Seconds of the clock and of the CPU that a process of the workbench takes."""
    before, begin = os.times(), time.monotonic()
    subprocess.run([*WORKBENCH, *words], check=True, stdout=subprocess.DEVNULL, timeout=END_S)
    took, after = time.monotonic() - begin, os.times()
    return took, after.children_user + after.children_system - before.children_user - before.children_system


def size(lab: Path) -> int:
    with Dataset.open(lab) as dataset:
        return dataset.database.size()


# The page.


def line(*cells: Any) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def paragraph(*parts: str) -> list[str]:
    return [*textwrap.wrap(" ".join(parts), 120, break_on_hyphens=False), ""]


def written(found: dict[str, Any]) -> str:
    campaign, rows = found["campaign"], found["rows"]
    one, four, killed = campaign["one"], campaign["four"], campaign["killed"]
    took = "; ".join(f"{part}: {seconds} s, load before {load}" for part, (seconds, load) in found["took"].items())
    lines = [
        "# Many collectors, a large catalogue",
        "",
        "    .venv/bin/python benchmarks/scale.py",
        "",
        *paragraph(
            f"All processes on one machine of {os.cpu_count()} cores, which others used too ({took}). PostgreSQL 15,",
            "with fsync off; the object store is rclone's server of S3 on a folder, which checks signatures.",
        ),
        *paragraph(
            f"A campaign of {found['captures']:,} captures of 32×32 RAWs, `sim20` taking {FRAME_MS} ms a frame; each",
            "collector is as on a host of its own, with a lab folder of its own:",
        ),
        line("", "captures", "lost", "doubled", "frames asked", "damaged", "captures/s", "digest"),
        line(*["---"] * 8),
    ]
    for name, data in (("one collector, one board", one), ("four and four", four), ("four and four, killed", killed)):
        speed = f"{data['rate']:.1f}" if "rate" in data else ""
        cells = [data[key] for key in ("captures", "lost", "doubled", "asked", "problems")]
        lines.append(line(name, *cells, speed, data["digest"][:12]))
    lines += [
        "",
        *paragraph(
            f"Four are {four['rate'] / one['rate']:.2f} times as fast as one, between the first commit and the last.",
            f"Killed were {killed['collectors_killed']} collectors and {killed['boards_killed']} boards; PostgreSQL",
            f"and the object store ended and started again {killed['restarts']} times each; it took",
            f"{killed['seconds']:.0f} s. Collectors that ended by themselves with an error were started again:",
            f"{one['gave_up']}, {four['gave_up']} and {killed['gave_up']} times. Frames that a killed collector",
            "asked for are not among those asked.",
        ),
        *paragraph(
            f"A catalogue of {rows:,} captures, filled in bulk, without files; batches of {BATCH} captures stored,",
            "median [least, largest] of a capture:",
        ),
        line("", f"at {rows:,}", "at 1,000", "ratio", "with the ratio of this process' CPU"),
        line(*["---"] * 5),
    ]
    for data in found["catalogue"]:
        many, few = data[str(rows)], data["1000"]
        wall, cpu = (statistics.median(many[k]) / statistics.median(few[k]) for k in ("store_ms", "store_cpu_ms"))
        stored = (
            f"{statistics.median(x):.2f} [{min(x):.2f}, {max(x):.2f}] ms" for x in (many["store_ms"], few["store_ms"])
        )
        lines.append(line(data["kind"], *stored, f"{wall:.2f}", f"{cpu:.2f}"))
    lines += [
        "",
        "`workbench dataset info`, seconds of the clock (of the CPU, without the server's), the least of several:",
        "",
        line("", f"first at {rows:,}", "then", "at 1,000", "`--help`", "bytes a row"),
        line(*["---"] * 6),
    ]
    for data in found["catalogue"]:
        many, few = data[str(rows)], data["1000"]
        spans = (many["info_s"][0], min(many["info_s"][1:]), min(few["info_s"]), many["empty_s"])
        cells = (f"{wall:.2f} ({cpu:.2f})" for wall, cpu in spans)
        lines.append(line(data["kind"], *cells, f"{many['bytes'] / rows:,.0f}"))
    lines += [
        "",
        *paragraph(
            "The first `info` after captures came computes their digest, the next ones find it",
            "remembered; `--help` is a process that does nothing.",
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
