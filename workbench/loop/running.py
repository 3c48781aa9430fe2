"""Running the loop: from a device's URL or name, a predictor and frames to what came of it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from drivers.device import Capture, Device, Failure
from drivers.errors import DeviceError, FrameError
from drivers.next_ahead import waited
from drivers.raw.raw_files import load_raw
from drivers.raw.raw_notes import RawNote, told_once
from workbench.board.frame_predictor import FramePredictor
from workbench.collect.collector import RawsNeededError
from workbench.collect.failures import FailureTally, described
from workbench.collect.faults import Faults
from workbench.collect.raw_folder import RawEntry, read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.collect.taking import make_sure_all_taken
from workbench.console.notes import say
from workbench.console.progress import Progress
from workbench.errors import DatasetError, StoppedError
from workbench.lab.dataset import Dataset
from workbench.lab.devices import open_devices
from workbench.lab.runs import RunFolder, find_run
from workbench.learn.predictors import check_space, open_predictor
from workbench.loop.controller import Controller, Proposal
from workbench.loop.outputs import Outputs, check_saved, own_folder
from workbench.loop.results import Clock, LoopResult, Times
from workbench.loop.smoothing import SETTLE
from workbench.loop.streams import Shot, live, stored


def run_loop(
    lab: Path,
    device: str,
    *,
    predictor: str | None = None,
    raws: Path | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    settle: int = SETTLE,
    save: Path | None = None,
    keep: bool = False,
    scene: str = "live",
    gpu: bool = False,
) -> LoopResult:
    """Predict, push and capture a stream of frames; the next frame is predicted while the device works.

    What ends it early, once there is a capture, stands in the result (:meth:`LoopResult.check`), with all that was
    done until then. Progress and notes go to stderr.

    Args:
        lab: the lab folder, with its runs.
        device: URL, or name of the lab's ``lab.toml``.
        predictor: name of the ``train`` run; by default the newest.
        raws: folder of RAW files, taken in the order of their names (or those of its ``scenes.csv``); None: the device
            is live.
        frames: frames asked at most; by default stored RAWs once each, and of a live device any number.
        seconds: after which no further frame is asked.
        settle: frames in which a step of the parameters is followed, see :mod:`workbench.loop.smoothing`; 0: at once.
        save: folder for the output pictures.
        keep: keep captures, failures and RAWs in the lab's data set.
        scene: live devices: what is before the device, for ``keep``.
        gpu: predict on this machine's GPU.

    Raises:
        RawsNeededError: ``raws`` is None and the device is not live.
        NoGpuError: ``gpu``, and torch finds none.
        RunError: no such run, or it is of another device; its weights or rule are missing or damaged; ``save`` has
            pictures of another loop.
        RawFolderError: the folder cannot be used.
        DeviceError: the device is live and ``raws`` is given, or it failed before the first capture.
        FrameError: the first RAW cannot be read.
        DatasetError: the data set cannot be opened, or a scene is in another split there.
    """
    check_saved(save)
    run = find_run(lab, "train", predictor)
    loaded = open_predictor(run)
    predicting = FramePredictor(run, loaded, gpu=gpu)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_devices([device], lab))
        info = opened.info()
        check_space(run, loaded.space, info)
        entries: list[RawEntry] = []
        if info.live and raws is not None:
            raise DeviceError(f"{opened.url}: a live device takes no stored RAWs; leave out --raws")
        if not info.live:
            if raws is None:
                raise RawsNeededError("a device that is not live needs a folder of RAWs; give it --raws")
            entries = read_raw_folder(raws)
            make_sure_all_taken(opened, [functools.partial(load_raw, entry.path) for entry in entries])
        dataset = stack.enter_context(Dataset.open(lab, create=True)) if keep else None
        notes: list[tuple[str, RawNote]] = []
        if dataset is not None and entries:
            with Progress("read RAWs", len(entries), unit="RAW") as progress:
                import_raws(dataset, entries, progress.update, notes)
        controller = Controller(predicting, info.space, settle)
        stack.enter_context(own_folder(save))
        outputs = Outputs(info, save, dataset, scene)
        shots = live(opened, controller) if info.live else stored(opened, controller, entries, notes)
        if frames is None and seconds is None and entries:
            frames = len(entries)
        try:
            return _Loop(run, opened, controller, outputs).run(shots, frames, seconds)
        finally:
            say(told_once(notes))


class _Loop:
    """The state of one :func:`run_loop`."""

    def __init__(self, run: RunFolder, device: Device, controller: Controller, outputs: Outputs) -> None:
        self._run = run
        self._device = device
        self._controller = controller
        self._outputs = outputs
        self._clock = Clock()
        self._tally = FailureTally()
        self._faults = Faults(device)
        self._after: tuple[Shot, Future[Capture | Failure]] | None = None
        self._shown: Proposal | None = None
        self._cuts = self._moves = 0
        self._moved = self._moved_predicted = 0.0

    def run(self, shots: Generator[Shot, None, None], frames: int | None, seconds: float | None) -> LoopResult:
        """Take shots until there are as many, the time is over, or something ends them."""
        ended_by = None
        begun = time.perf_counter()
        with closing(shots), ThreadPoolExecutor(1) as pool, Progress("run", frames or 0, unit="frame") as progress:
            asked = 0
            try:
                while (frames is None or asked < frames) and (seconds is None or time.perf_counter() - begun < seconds):
                    shot = next(shots)
                    asked += 1
                    self._time(shot)
                    self._follow(shot.proposal)
                    # Checked and kept while the next frame is made; one at a time, so that memory is bounded.
                    self._finish()
                    self._after = shot, pool.submit(self._outputs.take, asked, shot.raw, shot.answer)
                    progress.update(asked, self._note())
                self._finish()
            except (DeviceError, FrameError, DatasetError, StoppedError) as error:
                if not self._clock.frames:
                    raise
                ended_by = error
            with contextlib.suppress(DeviceError, DatasetError):  # something else ended it
                self._finish()
        return self._result(ended_by)

    def _time(self, shot: Shot) -> None:
        if isinstance(shot.answer, Failure):
            return
        now, clock = time.perf_counter(), self._clock
        clock.frame(now)
        clock.in_device.append(shot.answer.device_s)
        clock.pushed.append(shot.answer.total_s)
        if shot.proposal is not None:
            clock.predicted.append(shot.proposal.done - shot.proposal.begun)
            clock.captured.append(now - shot.proposal.begun)

    def _follow(self, proposal: Proposal | None) -> None:
        """Count what was pushed; more is predicted, which no frame is made with any more."""
        if proposal is None or proposal is self._shown:
            return
        self._shown = proposal
        self._cuts += proposal.cut
        if proposal.moved is not None and proposal.moved_predicted is not None:
            self._moves += 1
            self._moved += proposal.moved
            self._moved_predicted += proposal.moved_predicted

    def _finish(self) -> None:
        """Take what became of the frame before.

        Raises:
            TooManyFailuresError: too many frames failed.
            DatasetError: it could not be kept.
        """
        if self._after is None:
            return
        (shot, after), self._after = self._after, None
        answer = waited(after)
        if isinstance(answer, Failure):
            name = shot.raw.source if shot.raw else "live"
            self._tally.add(answer.code, answer.reason, described(name, answer.parameters))
        else:
            self._tally.made()
        self._tally.check(self._device.url)

    def _note(self) -> str:
        clock = self._clock
        if not clock.captured:
            return ""
        cuts = f", {self._cuts} scene cuts" if self._cuts else ""
        return (
            f"RAW to parameters {1e3 * clock.predicted[-1]:.3g} ms, to capture {1e3 * clock.captured[-1]:.3g} ms{cuts}"
        )

    def _result(self, ended_by: DeviceError | FrameError | DatasetError | StoppedError | None) -> LoopResult:
        clock = self._clock
        return LoopResult(
            run=self._run.name,
            device_url=self._device.url,
            device=self._device.info().identity,
            frames=self._tally.asked - self._tally.failed,
            tally=self._tally,
            rate=clock.rate,
            predicted=Times.of(clock.predicted),
            captured=Times.of(clock.captured),
            pushed=Times.of(clock.pushed),
            in_device=Times.of(clock.in_device),
            settle=self._controller.settle,
            cuts=self._cuts,
            moved=self._moved / self._moves if self._moves else None,
            moved_predicted=self._moved_predicted / self._moves if self._moves else None,
            kept=self._outputs.kept,
            saved=self._outputs.saved,
            faults=self._faults.counts(),
            ended_by=ended_by,
        )
