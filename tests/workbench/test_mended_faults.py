"""What a device did wrong and was mended is counted, told and kept, however the work ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from fake_isp import FakeIsp, make_raw
from typer.testing import CliRunner

from drivers import registry
from drivers.device import Capture
from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import save_npz
from workbench.collect.faults import failure_lines, told
from workbench.commands.collect import collect
from workbench.errors import StoppedError
from workbench.lab.dataset import Dataset


class Limping(FakeIsp):
    """Counts a fault of the given kind with every third frame; ends with an error of the given kind."""

    def __init__(self, kind: str, end: BaseException | None = None, after: int = 12) -> None:
        super().__init__()
        self.kind, self.end, self.after = kind, end, after
        self.counts["reconnects"] = 5  # before the run: not its fault

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if self.end is not None and len(self.asked) >= self.after:
            raise self.end
        self.counts[self.kind] += len(self.asked) % 3 == 0
        return super().process(raw, parameters)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "raws").mkdir()
    for i in range(3):
        save_npz(tmp_path / "raws" / f"{i}.npz", make_raw(i))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, device: FakeIsp, *arguments: str) -> tuple[str, BaseException | None]:
    monkeypatch.setattr(registry, "open_device", lambda url, deadline_s=30.0: device)
    app = typer.Typer()
    app.command()(collect)
    result = CliRunner().invoke(app, ["--device", "fake:", "--raws", "raws", "--captures", "30", *arguments])
    return result.output, result.exception


@pytest.mark.parametrize("kind", ["refused", "reboots", "reconnects", "busy", "something new"])
def test_mended_faults_are_told_and_kept(place: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    out, error = run(monkeypatch, Limping(kind))
    assert error is None
    assert "device unit 7: 10 " in out
    assert "was lost was asked again" in out
    out, _ = run(monkeypatch, Limping(kind), "--seed", "1", "--json")
    assert json.loads(out.splitlines()[-1])["faults"] == {"unit 7": {kind: 10}}
    with Dataset.open(place / "lab") as dataset:
        uses = dataset.device_uses()
    assert [(use.purpose, use.asked, use.counts) for use in uses] == [("collect", 30, {"unit 7": {kind: 10}})] * 2


@pytest.mark.parametrize(
    ("end", "kind"),
    [(DeviceUnreachableError("fake: gone"), DeviceUnreachableError), (KeyboardInterrupt(), StoppedError)],
)
def test_faults_before_an_end_are_kept_too(
    place: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, kind: type[BaseException]
) -> None:
    out, error = run(monkeypatch, Limping("refused", end))
    assert isinstance(error, kind)
    assert "device unit 7: 4 answers refused" in out
    with Dataset.open(place / "lab") as dataset:
        (use,) = dataset.device_uses()
        assert (use.asked, use.counts) == (12, {"unit 7": {"refused": 4}})


def test_nothing_asked_is_no_use(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, FakeIsp())
    out, _ = run(monkeypatch, FakeIsp())
    assert out.splitlines()[-1] == "complete: 30 of 30 captures, nothing to do"
    with Dataset.open(place / "lab") as dataset:
        assert len(dataset.device_uses()) == 1


def test_lines_for_people() -> None:
    assert told({"u\x1b": {"refused": 1, "reboots": 2}, "v": {"new": 3}}) == [
        "device u\\x1b: 1 answer refused (wrong hash or damaged), 2 reboots; what was lost was asked again",
        "device v: 3 new; what was lost was asked again",
    ]
    assert failure_lines({}) == []
    assert failure_lines({"failed": 3, "failed_share": 0.03, "failures_by_reason": {"failed: no": 3}}) == [
        "3 frames failed (3 %), most often failed: no"
    ]
