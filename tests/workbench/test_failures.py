"""Frames that come to nothing: kept with their reason, skipped, told; too many of them end the work."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from fake_isp import FakeIsp, make_raw, make_set
from typer.testing import CliRunner

from drivers import registry
from drivers.errors import DeviceError, DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.failures import FailureTally, TooManyFailuresError, described, percent
from workbench.commands.collect import collect
from workbench.lab.dataset import CaptureRecord, Dataset, FailureRecord, RawRecord

Job = tuple[RawRecord, ParameterSet]


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Dataset]:
    with Dataset.open(tmp_path / "lab", create=True) as dataset:
        for i in range(3):
            dataset.add_raw(make_raw(i), scene=f"s{i}", split=Split.TRAIN, name=f"{i}.npz")
        yield dataset


def make_jobs(dataset: Dataset, count: int) -> list[Job]:
    raws = dataset.raws()
    return [(raws[i % 3], make_set(i)) for i in range(count)]


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that says it is ``side`` × ``side``."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def decoded(good: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(good, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def resized(good: bytes, height: int, width: int) -> bytes:
    return cv2.imencode(".png", cv2.resize(decoded(good), (width, height)))[1].tobytes()


def as_jpeg(good: bytes) -> bytes:
    return cv2.imencode(".jpg", decoded(good))[1].tobytes()


def by_parameter(raw: RawFrame, parameters: ParameterSet) -> str:
    return "no such mode" if parameters["mode"] == "c" else ""


def by_raw(raw: RawFrame, parameters: ParameterSet) -> str:
    return "RAW too dark" if raw.iso == 101.0 else ""


def by_both(raw: RawFrame, parameters: ParameterSet) -> str:
    return by_raw(raw, parameters) if parameters["sharp"] else ""


def by_number(raw: RawFrame, parameters: ParameterSet) -> str:
    return f"gain {parameters['gain']} is odd" if parameters.codes[0] % 4 == 1 else ""


@pytest.mark.parametrize("refuses", [by_parameter, by_raw, by_both, by_number])
def test_a_refused_frame_is_kept_and_skipped(dataset: Dataset, refuses: Callable[..., str]) -> None:
    jobs = make_jobs(dataset, 60)
    device = FakeIsp(refuses=refuses)
    bench = Bench(dataset, device, purpose="collect")
    outcomes = list(bench.capture_many(jobs))
    assert [(o.raw_hash, o.parameters_hash) for o in outcomes] == [(r.hash, p.hash) for r, p in jobs]
    bad = [bool(refuses(r.load(), p)) for r, p in jobs]
    assert 0 < sum(bad) <= 30
    assert [isinstance(o, FailureRecord) for o in outcomes] == bad
    failures = [o for o in outcomes if isinstance(o, FailureRecord)]
    assert [(f.code, f.reason) for f in failures] == [
        ("failed", refuses(r.load(), p)) for (r, p), b in zip(jobs, bad, strict=True) if b
    ]
    assert (bench.asked, bench.tally.failed, bench.tally.asked) == (60 - sum(bad), sum(bad), 60)
    # Another bench, as another process has, finds them and asks nothing.
    again = FakeIsp()
    assert list(Bench(dataset, again, purpose="tune").capture_many(jobs)) == outcomes
    assert again.asked == []
    assert len(dataset.failures()) == sum(bad)
    assert campaign.StoredCampaign(bench, jobs).remaining() == []
    # Forgotten, they are asked again.
    dataset.forget_failures()
    assert all(isinstance(o, CaptureRecord) for o in Bench(dataset, again, purpose="tune").capture_many(jobs))
    assert len(again.asked) == sum(bad)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda good: b"hello", id="text"),
        pytest.param(lambda good: b"", id="empty"),
        pytest.param(lambda good: good[: len(good) // 2], id="truncated PNG"),
        pytest.param(lambda good: good[:-8], id="PNG without its end"),
        pytest.param(lambda good: as_jpeg(good)[:300], id="truncated JPEG"),
        pytest.param(lambda good: resized(good, 8, 8), id="half the size"),
        pytest.param(lambda good: resized(good, 18, 16), id="two rows more"),
        pytest.param(lambda good: resized(good, 16, 32), id="twice as wide"),
        pytest.param(lambda good: bomb(30_000), id="bomb"),
        pytest.param(lambda good: good[:60] + bytes(8) + good[68:], id="damaged"),
    ],
)
def test_an_output_that_is_no_picture_is_a_failure(dataset: Dataset, spoil: Callable[[bytes], bytes]) -> None:
    jobs = make_jobs(dataset, 30)
    device = FakeIsp(spoils=lambda raw, parameters, good: spoil(good) if parameters["mode"] == "a" else good)
    outcomes = list(Bench(dataset, device, purpose="collect").capture_many(jobs))
    failures = [o for o in outcomes if isinstance(o, FailureRecord)]
    assert len(failures) == 10
    assert {f.code for f in failures} == {"output"}
    assert all(f.reason and "\n" not in f.reason for f in failures)
    kept = dataset.captures()
    assert len(kept) == 20
    assert all(capture.rgb().pixels.shape == (16, 16, 3) for capture in kept)


def test_one_capture_that_fails_is_an_error_that_names_it(dataset: Dataset) -> None:
    bench = Bench(dataset, FakeIsp(refuses=lambda raw, parameters: "never"), purpose="collect")
    with pytest.raises(DeviceError, match=r"RAW 0\.npz with gain 0\.0\d+, level 0, mode b, sharp True.*never"):
        bench.capture(dataset.raws()[0], make_set(1))


@pytest.mark.parametrize(
    ("bad", "of", "stops"),
    [(10, 10, True), (9, 9, False), (11, 20, True), (10, 20, False), (11, 19, False), (51, 100, True), (1, 100, False)],
)
def test_too_many_failures_end_the_work(dataset: Dataset, bad: int, of: int, stops: bool) -> None:
    jobs = make_jobs(dataset, of)
    refused = {p.hash for _, p in jobs[:bad]}
    bench = Bench(
        dataset, FakeIsp(refuses=lambda raw, p: f"reason {p.codes[0]}" if p.hash in refused else ""), purpose="collect"
    )
    if not stops:
        assert campaign.run(campaign.StoredCampaign(bench, jobs)).new == of - bad
    else:
        with pytest.raises(TooManyFailuresError) as error:
            campaign.run(campaign.StoredCampaign(bench, jobs))
        text = str(error.value)
        assert f"{percent(bench.tally.share)}), most often failed: reason" in text
        assert "for example RAW 0.npz with gain 0, level 0, mode a, sharp False" in text
        assert "captures to make are kept" in text
        assert "\n" not in text
    assert len(dataset.failures()) == bench.tally.failed
    assert len(dataset.captures()) == bench.tally.asked - bench.tally.failed


def test_a_broken_off_campaign_names_where_it_stopped(dataset: Dataset) -> None:
    jobs = make_jobs(dataset, 20)
    with pytest.raises(DeviceUnreachableError) as error:
        campaign.run(campaign.StoredCampaign(Bench(dataset, FakeIsp(answers=7), purpose="collect"), jobs))
    assert "7 of the 20 captures to make are kept" in str(error.value)
    assert described(jobs[7][0].name, jobs[7][1]) in str(error.value)


def test_failures_before_an_end_are_kept_once(dataset: Dataset) -> None:
    jobs = make_jobs(dataset, 40)
    for answers in (5, 9, 20, None):
        try:
            list(Bench(dataset, FakeIsp(answers=answers, refuses=by_parameter), purpose="collect").capture_many(jobs))
        except DeviceUnreachableError:
            continue
    keys = [(f.raw_hash, f.parameters_hash) for f in dataset.failures()]
    assert len(keys) == len(set(keys)) == sum(p["mode"] == "c" for _, p in jobs)
    assert len(dataset.captures()) == 40 - len(keys)


def test_reasons_that_differ_in_their_figures_are_one() -> None:
    tally = FailureTally()
    for i in range(30):
        tally.add("failed", f"gain {i}.5 above {i + 3}", f"RAW {i}")
    tally.add("output", "not a picture\x1b[31m")
    for _ in range(9):
        tally.made()
    assert tally.by_reason == {"failed: gain 0.5 above 3": 30, "output: not a picture\\x1b[31m": 1}
    assert tally.told() == ("31 of 40 frames failed (77.5 %), most often failed: gain 0.5 above 3 (for example RAW 0)")
    for i in range(60):
        tally.add("failed", f"{'x' * (i + 1)}!")
    assert sum(tally.by_reason.values()) == 91
    assert len(tally.by_reason) <= 21


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "raws").mkdir()
    for i in range(6):
        save_npz(tmp_path / "raws" / f"{i}.npz", make_raw(i))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_collect(monkeypatch: pytest.MonkeyPatch, device: FakeIsp, *arguments: str) -> str:
    monkeypatch.setattr(registry, "open_device", lambda url, deadline_s=30.0: device)
    app = typer.Typer()
    app.command()(collect)
    result = CliRunner().invoke(app, ["--device", "fake:", "--raws", "raws", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_collect_says_what_failed_and_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeIsp(refuses=by_parameter)
    told = json.loads(run_collect(monkeypatch, device, "--captures", "30", "--json"))
    failed = told["failed"]
    assert 0 < failed < 15
    assert told["failures_by_reason"] == {"failed: no such mode": failed}
    assert told["failed_share"] == failed / 30
    assert (told["captures"], told["new"], told["new_failed"], told["faults"]) == (30 - failed, 30 - failed, failed, {})
    again = FakeIsp()
    out = run_collect(monkeypatch, again, "--captures", "30")
    assert again.asked == []
    assert f"complete: {30 - failed} of 30 captures, nothing to do" in out
    assert f"{failed} of 30 captures failed ({percent(failed / 30)}), most often failed: no such mode" in out
    assert "workbench dataset retry" in out
    with Dataset.open(place / "lab") as dataset:
        (use,) = dataset.device_uses()
        assert (use.asked, use.failed, use.counts) == (30 - failed, failed, {})


def test_collect_of_nothing_but_failures_is_an_error_each_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in ("30", "30", "4"):
        device = FakeIsp(spoils=lambda raw, parameters, good: b"hello")
        with pytest.raises(TooManyFailuresError, match=r"failed \(100 %\), most often output: .*for example RAW"):
            run_collect(monkeypatch, device, "--captures", count)
    with Dataset.open(place / "lab") as dataset:
        assert dataset.captures() == []
        assert len(dataset.failures()) == 30
