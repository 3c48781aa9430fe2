"""``workbench run``: frames of a folder and of a live device, each predicted, pushed and captured."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import typer
from fake_isp import FakeIsp, make_raw, make_set, picture
from other_programs import locked_by_another
from sim_lab import picture as lab_picture
from typer.testing import CliRunner

from drivers.device import Capture
from drivers.errors import DeviceError, DeviceUnreachableError, FrameError
from drivers.frames import RawFrame
from drivers.next_ahead import Ahead
from drivers.parameters import ParameterSet
from drivers.protocol import wire
from drivers.raw.raw_files import load_raw, save_npz
from drivers.raw_input import RawInput
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import save_predictor
from predictor.gpu import NoGpuError
from predictor.model import Predictor, PredictorConfig
from sim.device import SimDevice
from sim.firmware.faults import Fault, Faults
from sim.firmware.registers import emulated
from workbench.collect.collector import RawsNeededError
from workbench.collect.raw_folder import RawEntry
from workbench.commands.run import run
from workbench.console.interrupt import stoppable
from workbench.errors import DatasetError, RunError, StoppedError
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.verify import verify
from workbench.lab.runs import find_run, new_run
from workbench.learn.predictors import open_predictor
from workbench.loop.controller import Controller, Proposal
from workbench.loop.running import run_loop
from workbench.loop.streams import stored

DEVICE = "sim:sim20"
Serve = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a predictor of the emulated device, whose parameters differ from RAW to RAW."""
    lab = tmp_path_factory.mktemp("loop") / "lab"
    with open_device(DEVICE) as device:
        info = device.info()
    torch.manual_seed(1)
    run = new_run(lab, "train", "net")
    save_predictor(run.path, Predictor(PredictorConfig(len(info.space), width=4)), info.space, info.identity)
    run.update(config={}, device=info)
    run.finish({})
    return lab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four RAWs of different scenes."""
    raws = tmp_path / "raws"
    raws.mkdir()
    for i in range(4):
        save_npz(raws / f"{i}.npz", lab_picture(i)[0])
    return raws


def command(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(run)
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_each_raw_gets_its_own_prediction(trained: Path, folder: Path, tmp_path: Path) -> None:
    result = run_loop(trained, DEVICE, raws=folder, settle=0, save=tmp_path / "out")
    predictor = open_predictor(find_run(trained, "train"))
    with open_device(DEVICE) as device:
        for i, picture in enumerate(sorted((tmp_path / "out").iterdir())):
            raw = load_raw(folder / f"{i}.npz")
            (parameters,) = predictor.predict([raw])
            assert picture.read_bytes() == device.process(raw, parameters).rgb.encoded
    assert (result.frames, result.saved, result.kept, result.tally.failed) == (4, 4, 0, 0)
    assert result.captured.median_s is not None
    assert result.predicted.median_s is not None
    assert result.captured.median_s > result.predicted.median_s > 0
    assert result.rate is not None
    result.check()
    assert not (trained / "dataset.sqlite").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told_before_the_first_frame(trained: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(NoGpuError, match="leave --gpu out"):
        run_loop(trained, DEVICE, raws=folder, save=out, gpu=True)
    assert not out.exists()


def test_a_raw_that_the_device_does_not_take_is_refused_before_the_first_frame(
    trained: Path, folder: Path, serving: Serve
) -> None:
    firmware = emulated("sim20")
    firmware.input = RawInput(max_size=(32, 32))
    with pytest.raises(DeviceError, match=r"does not take 4 of 4 RAWs.*the device takes 32×32 at most"):
        run_loop(trained, serving(firmware), raws=folder)
    assert firmware.frame == 0


class Overlap:
    """A controller and a device that each go on only once the other has begun its next frame."""

    def __init__(self) -> None:
        self.predicting = [threading.Event() for _ in range(6)]
        self.working = [threading.Event() for _ in range(6)]

    def propose(self, raw: RawFrame) -> Proposal:
        place = int(Path(raw.source).stem)
        self.predicting[place].set()
        if place:
            assert self.working[place - 1].wait(10), "the device waits for the prediction of a later frame"
        return Proposal(raw, make_set(place), 0.0, 0.0)


class OverlappingIsp(FakeIsp):
    def __init__(self, overlap: Overlap) -> None:
        super().__init__()
        self.overlap = overlap

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        place = len(self.asked)
        self.overlap.working[place].set()
        assert self.overlap.predicting[place + 1].wait(10), "nothing is predicted while the device works"
        return super().process(raw, parameters)


def test_the_next_frame_is_predicted_while_the_device_works(tmp_path: Path) -> None:
    raws = [make_raw(i) for i in range(6)]
    for i, raw in enumerate(raws):
        save_npz(tmp_path / f"{i}.npz", raw)
    entries = [RawEntry(tmp_path / f"{i}.npz", str(i), Split.TRAIN, None) for i in range(6)]
    overlap = Overlap()
    shots = stored(OverlappingIsp(overlap), overlap, entries, [])  # type: ignore[arg-type]
    for i in range(5):
        shot = next(shots)
        assert isinstance(shot.answer, Capture)
        assert shot.answer.rgb.encoded == picture(raws[i], make_set(i))
    shots.close()


def test_a_photograph_is_made_with_what_the_one_before_the_last_told(
    trained: Path, folder: Path, serving: Serve, tmp_path: Path
) -> None:
    """What is before the camera comes in a known order, so every picture can be made again."""
    url = serving(emulated("sim20", live=folder))
    result = run_loop(trained, url, frames=5, settle=0, save=tmp_path / "out", keep=False)
    assert result.frames == 5
    raws = [load_raw(path) for path in sorted(folder.iterdir())]
    predictor = open_predictor(find_run(trained, "train"))
    pictures = [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
    with open_device(DEVICE) as device:
        sets = [*[device.info().space.defaults] * 2, *predictor.predict(raws)]
        for n, encoded in enumerate(pictures):
            assert encoded == device.process(raws[n % 4], sets[n]).rgb.encoded


def test_captures_are_kept_where_that_is_said(trained: Path, folder: Path, serving: Serve, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "runs").symlink_to(trained / "runs")
    result = run_loop(lab, DEVICE, raws=folder, settle=0, frames=6, keep=True)
    live = run_loop(lab, serving(emulated("sim20", live=Path("lab"))), frames=3, keep=True, scene="desk")
    assert (result.frames, result.kept, live.kept) == (6, 6, 3)
    with Dataset.open(lab) as dataset:
        captures = dataset.captures(purpose="run")
        assert len(captures) == 4 + 3  # the folder began again: the same RAWs and parameters are the same captures
        assert not verify(dataset).problems
        scenes = {raw.hash: raw.scene for raw in dataset.raws()}
    assert {scenes[c.raw_hash] for c in captures} >= {"0", "1", "2", "3"}


def test_a_live_scene_stays_in_its_split(trained: Path, folder: Path, serving: Serve, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "runs").symlink_to(trained / "runs")
    with Dataset.open(lab, create=True) as dataset:
        dataset.add_raw(lab_picture(9)[0], scene="window", split=Split.VALIDATION, name="9")
    run_loop(lab, serving(emulated("sim20", live=folder)), frames=2, keep=True, scene="window")
    with Dataset.open(lab) as dataset:
        assert {raw.split for raw in dataset.raws()} == {Split.VALIDATION}


def test_a_frame_that_fails_does_not_end_it(trained: Path, folder: Path, serving: Serve) -> None:
    firmware = emulated("sim20")
    honest = firmware.handle

    def handle(message: wire.Message) -> wire.Message:
        if isinstance(message, wire.Process) and message.raw_hash == load_raw(folder / "1.npz").hash:
            return wire.Error(message.id, "failed", "no light")
        return honest(message)

    firmware.handle = handle  # type: ignore[method-assign]
    faults = Faults({"corrupt": Fault(at=frozenset([2]))})  # the driver asks again
    result = run_loop(trained, serving(firmware, faults), raws=folder)
    assert (result.frames, result.tally.failed) == (3, 1)
    assert "no light" in result.tally.main_reason
    assert "1.npz" in result.tally.main_reason
    assert list(result.faults.values()) == [{"refused": 1, "resent": 1}]
    assert result.ended_by is None


def test_what_was_done_is_told_where_the_device_goes_away(
    trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.loop.running.open_devices", lambda *_: leaving(DEVICE))
    result = run_loop(trained, "leaving:", raws=folder)
    assert result.frames == 2
    with pytest.raises(DeviceUnreachableError, match="gone"):
        result.check()
    monkeypatch.setattr("workbench.loop.running.open_devices", lambda *_: leaving(DEVICE, after=0))
    with pytest.raises(DeviceUnreachableError, match="gone"):
        run_loop(trained, "leaving:", raws=folder)


def leaving(url: str, after: int = 2):  # type: ignore[no-untyped-def]
    """The device, gone after so many frames."""
    device = open_device(url)
    honest, asked = device.process, iter(range(after))

    def process(raw: RawFrame, parameters: ParameterSet) -> Capture:
        if next(asked, None) is None:
            raise DeviceUnreachableError("leaving: gone")
        return honest(raw, parameters)

    device.process = process  # type: ignore[method-assign]
    return device


def test_a_raw_that_cannot_be_read_ends_it(trained: Path, folder: Path) -> None:
    (folder / "2.npz").write_bytes(b"no RAW")
    code, output = command("--device", DEVICE, "--raws", str(folder), "--lab", str(trained))
    assert code != 0
    assert "2 frames of emulated-isp sim20" in output
    result = run_loop(trained, DEVICE, raws=folder)
    assert isinstance(result.ended_by, FrameError)
    assert "2.npz" in str(result.ended_by)


def test_what_does_not_fit(trained: Path, folder: Path, serving: Serve, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"its parameter space \(sim20, 20 parameters\) is not that of the device"):
        run_loop(trained, "sim:sim32", raws=folder)
    with pytest.raises(DeviceError, match="leave out --raws"):
        run_loop(trained, serving(emulated("sim20", live=folder)), raws=folder)
    with pytest.raises(RawsNeededError):
        run_loop(trained, DEVICE)
    code, output = command("--device", DEVICE, "--lab", str(trained))
    assert code == 2
    assert "--raws" in output
    with pytest.raises(DatasetError), Dataset.open(trained, create=False):
        pass


def test_ctrl_c_ends_it_with_all_that_was_done(trained: Path, folder: Path, serving: Serve) -> None:
    """The signal comes while the third photograph is taken; what is in flight is let in."""
    firmware = emulated("sim20", live=folder)
    honest, seen = firmware.handle, iter(range(100))

    def handle(message: object) -> object:
        if type(message).__name__ == "CaptureRequest" and next(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return honest(message)  # type: ignore[arg-type]

    firmware.handle = handle  # type: ignore[method-assign, assignment]
    with stoppable("stopped by the test"):
        result = run_loop(trained, serving(firmware))
    assert isinstance(result.ended_by, StoppedError)
    assert result.frames == 3


def test_the_end_as_asked(trained: Path, folder: Path) -> None:
    assert run_loop(trained, DEVICE, raws=folder, frames=2).frames == 2
    assert run_loop(trained, DEVICE, raws=folder, frames=9).frames == 9
    assert run_loop(trained, DEVICE, raws=folder, seconds=1e-9, frames=9).frames == 0


def test_as_json_and_for_people(trained: Path, folder: Path, tmp_path: Path) -> None:
    words = ("--device", DEVICE, "--raws", str(folder), "--lab", str(trained))
    code, output = command(*words, "--json", "--settle", "3")
    told = json.loads(output.splitlines()[-1])
    assert code == 0
    assert (told["run"], told["frames"], told["settle"], told["failed"], told["ended_by"]) == ("net", 4, 3, 0, None)
    assert set(told["raw_to_capture"]) == {"median_s", "p95_s"}
    code, output = command(*words, "--save", str(tmp_path / "out"))
    assert code == 0
    for text in ("95th percentile", "RAW in memory to capture", "frames a second", "4 pictures are in"):
        assert text in output


def test_two_loops_do_not_save_into_one_folder_at_once(trained: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked_by_another(out), pytest.raises(RunError, match="another loop saves its pictures there right now"):
        run_loop(trained, DEVICE, raws=folder, save=out)
    assert run_loop(trained, DEVICE, raws=folder, save=out).saved == 4
    assert len(list(out.iterdir())) == 4


def test_pictures_of_another_loop_are_neither_overwritten_nor_mixed(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    run_loop(trained, DEVICE, raws=folder, save=tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.glob("*.jpg")}
    with pytest.raises(RunError, match=r"has pictures of another loop \(4, 000001.jpg first\); give a new folder"):
        run_loop(trained, DEVICE, raws=folder, frames=2, settle=0, save=tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.glob("*.jpg")} == before


def test_a_frame_that_was_predicted_but_not_made_counts_for_nothing(
    trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = threading.Event()
    propose, process = Controller.propose, SimDevice.process

    def proposed(self: Controller, raw: RawFrame) -> Proposal:
        found = propose(self, raw)
        if raw.source.endswith("1.npz"):
            ahead.set()
        return found

    def processed(self: SimDevice, raw: RawFrame, parameters: ParameterSet) -> Capture:
        assert ahead.wait(10)
        return process(self, raw, parameters)

    monkeypatch.setattr(Controller, "propose", proposed)
    monkeypatch.setattr(SimDevice, "process", processed)
    result = run_loop(trained, DEVICE, raws=folder, frames=1)
    assert (result.frames, result.cuts, result.moved) == (1, 0, None)


def test_parameters_move_less_than_predicted(trained: Path, tmp_path: Path) -> None:
    """Frames of one scene under changing noise."""
    video = tmp_path / "video"
    video.mkdir()
    raw = lab_picture(1)[0]
    for i in range(8):
        torch.manual_seed(i)
        noisy = raw.mosaic + (60 * torch.randn(raw.mosaic.shape)).numpy()
        save_npz(video / f"{i}.npz", RawFrame.from_metadata(noisy.clip(0, 4095).astype("uint16"), raw.metadata))
    result = run_loop(trained, DEVICE, raws=video, settle=8)
    assert result.cuts == 0
    assert result.moved is not None
    assert result.moved_predicted is not None
    assert result.moved < 0.7 * result.moved_predicted


def test_one_ahead_and_what_the_source_raises() -> None:
    made: list[int] = []
    taken = threading.Event()

    def source() -> Iterator[int]:
        for n in range(3):
            made.append(n)
            yield n
        taken.set()
        raise FrameError("the source is at fault")

    ahead = Ahead(source())
    assert [next(ahead), next(ahead)] == [0, 1]
    assert next(ahead) == 2
    assert taken.wait(10)
    with pytest.raises(FrameError, match="at fault"):
        next(ahead)
    ahead.close()
    assert made == [0, 1, 2]
    assert list(Ahead(iter("ab"))) == ["a", "b"]
