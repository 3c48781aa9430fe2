"""Several processes share one campaign: each capture is made by one of them, also where some are killed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import kill_runner
import pytest
import typer
from fake_isp import FakeIsp, make_raw, make_set
from postgresql_server import KeptIn, on_both
from test_kill import start as collecting
from typer.testing import CliRunner

from drivers.device import Capture, Failure
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench.collect import bench as benches
from workbench.collect.bench import Bench
from workbench.commands.device_list import list_devices
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.claims import Claims, workers

CAPTURES = 200
KEYS = [("raw", str(i)) for i in range(6)]


@pytest.fixture
def dataset(tmp_path: Path, kept_in: KeptIn) -> Iterator[Dataset]:
    with Dataset.open(kept_in(tmp_path / "lab"), create=True) as opened:
        opened.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")
        yield opened


def list_devices_app() -> typer.Typer:
    app = typer.Typer()
    app.command()(list_devices)
    return app


def claims(dataset: Dataset, lease_s: float = 60.0) -> Claims:
    return Claims(dataset.database, FakeIsp().info(), "fake:?keys=secret", "collect", lease_s)


@on_both
def test_a_claim_is_one_workers_until_it_is_done_released_or_over(dataset: Dataset) -> None:
    one, other = claims(dataset), claims(dataset)
    assert one.take(KEYS[:4]) == set(KEYS[:4])
    assert one.alone
    assert other.take(KEYS) == set(KEYS[4:])
    assert not other.alone
    assert one.take(KEYS[:1]) == set(KEYS[:1])
    one.done(KEYS[:1])
    one.take([])
    assert other.take(KEYS) == {KEYS[0], *KEYS[4:]}
    assert [(w.url, w.purpose, w.serial, w.ended_s < 0) for w in workers(dataset.database)] == [
        ("fake:", "collect", "unit 7", True)
    ] * 2
    assert sorted(w.claims for w in workers(dataset.database)) == [3, 3]
    listed = CliRunner().invoke(list_devices_app(), ["--lab", str(dataset.lab)])
    assert listed.stdout.count(f"at work on {socket.gethostname()}: fake:, collect, at 3 captures") == 2
    one.release()
    assert other.take(KEYS) == set(KEYS)
    assert one.take(KEYS) == set()
    assert one.take(KEYS[:2], whoever_has_them=True) == set(KEYS[:2])
    short = claims(dataset, lease_s=0.0)
    other.release()
    assert short.take(KEYS[2:]) == set(KEYS[2:])  # over at once: nobody renews it
    assert other.take(KEYS) == set(KEYS[2:])


@on_both
def test_what_another_is_at_is_waited_for_and_read(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "LOOK_S", 0.02)
    (raw,) = dataset.raws()
    jobs = [(raw, make_set(i)) for i in range(12)]
    device, other = FakeIsp(), claims(dataset)
    theirs = [(raw.hash, p.hash) for _, p in jobs[:6]]
    other.take(theirs)
    stream = Bench(dataset, device, purpose="collect").capture_many(jobs)
    # In order: the first comes when the other has made it, failed, or let go of it.
    made = [FakeIsp().process(make_raw(0), p) for _, p in jobs[:4]]
    timer = threading.Timer(
        0.1, lambda: finish(dataset, other, made, Failure(raw.hash, jobs[4][1], "failed", "dark", "b"))
    )
    timer.start()
    outcomes = list(stream)
    timer.join()
    assert [o.parameters_hash for o in outcomes] == [p.hash for _, p in jobs]
    assert len(dataset.captures()) == 11
    assert sorted(key[1] for key in device.asked) == sorted(p.hash for _, p in jobs[5:])


def finish(dataset: Dataset, other: Claims, made: list[Capture], failure: Failure) -> None:
    dataset.add_captures(FakeIsp().info(), made, purpose="collect")
    dataset.add_failures(FakeIsp().info(), [failure], purpose="collect")
    other.release()


@on_both
def test_without_order_nothing_is_held_up(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "LOOK_S", 0.02)
    (raw,) = dataset.raws()
    jobs = [(raw, make_set(i)) for i in range(12)]
    other = claims(dataset)
    other.take([(raw.hash, p.hash) for _, p in jobs[:6]])
    stream = Bench(dataset, FakeIsp(), purpose="collect").capture_many(jobs, in_order=False)
    assert [next(stream).parameters_hash for _ in range(6)] == [p.hash for _, p in jobs[6:]]
    other.release()
    assert {o.parameters_hash for o in stream} == {p.hash for _, p in jobs[:6]}


def test_others_that_come_to_nothing_are_not_waited_for_for_ever(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benches, "LOOK_S", 0.01)
    monkeypatch.setattr(benches, "PATIENCE_S", 0.05)
    (raw,) = dataset.raws()
    other = claims(dataset)
    other.take([(raw.hash, make_set(0).hash)])
    assert Bench(dataset, FakeIsp(), purpose="collect").capture(raw, make_set(0)).parameters_hash == make_set(0).hash


@pytest.mark.timeout(240)
def test_killed_collectors_lose_and_double_nothing(tmp_path: Path) -> None:
    raws = tmp_path / "raws"
    raws.mkdir()
    for i in range(4):
        save_npz(raws / f"{i}.npz", make_raw(i))
    killed, left = collecting(tmp_path / "shared", raws, CAPTURES), collecting(tmp_path / "shared", raws, CAPTURES)
    assert killed.stdout is not None
    for _ in range(40):
        killed.stdout.readline()
    killed.kill()
    killed.communicate(timeout=60)
    left.communicate(timeout=120)
    assert left.returncode == 0
    kill_runner.main(tmp_path / "whole", raws, CAPTURES)
    with Dataset.open(tmp_path / "shared") as dataset, Dataset.open(tmp_path / "whole") as undisturbed:
        assert len(dataset.captures()) == CAPTURES
        assert dataset.digest() == undisturbed.digest()
