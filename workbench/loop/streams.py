"""Frames through a device, each with its own prediction; the next is predicted while the device works."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from cachetools import LRUCache

from drivers.device import Capture, Device, Failure, FrameFailedError
from drivers.frames import RawFrame
from drivers.next_ahead import Ahead, waited
from drivers.raw.raw_files import load_raw
from drivers.raw.raw_notes import RawNote
from workbench.collect.bench import RAW_CACHE_BYTES
from workbench.collect.raw_folder import RawEntry
from workbench.loop.controller import Controller, Proposal


@dataclass(frozen=True, eq=False)
class Shot:
    """What a frame came to.

    Attributes:
        raw: the frame; None where a live device failed before it gave one.
        answer: the capture, or why there is none.
        proposal: whose parameters were pushed: of this frame where it was stored, of an earlier one where the device is
            live; None of its first photographs, which are made with the device's defaults.
    """

    raw: RawFrame | None
    answer: Capture | Failure
    proposal: Proposal | None


def stored(
    device: Device, controller: Controller, entries: Sequence[RawEntry], notes: list[tuple[str, RawNote]]
) -> Generator[Shot, None, None]:
    """Stored RAWs in their order, over and over: read, predicted, pushed and captured.

    Reading, predicting and the device each work on a frame of their own, so the slowest of the three sets the rate.

    Args:
        device: takes stored RAWs.
        controller: predicts.
        entries: the RAWs.
        notes: gets what is worth telling of the files, with each file's name.

    Raises:
        FrameError: a file cannot be read as a RAW.
        DeviceError: the device failed.
    """
    with (
        closing(Ahead(_read(entries, notes))) as frames,
        closing(Ahead(map(controller.propose, frames))) as proposals,
    ):
        for proposal in proposals:
            try:
                answer: Capture | Failure = device.process(proposal.raw, proposal.parameters)
            except FrameFailedError as error:
                answer = _failure(error)
            yield Shot(proposal.raw, answer, proposal)


def live(device: Device, controller: Controller) -> Generator[Shot, None, None]:
    """Photographs of a live device: one is taken while the parameters are predicted from the one before.

    So each is made with what was predicted from the photograph two before it.

    Raises:
        DeviceError: the device failed.
    """
    parameters, proposal = device.info().space.defaults, None
    predicting: Future[Proposal] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="predict") as pool:
        while True:
            raw: RawFrame | None = None
            try:
                raw, capture = device.capture(parameters)
                shot = Shot(raw, capture, proposal)
            except FrameFailedError as error:
                shot = Shot(None, _failure(error), proposal)
            if predicting is not None:
                proposal = waited(predicting)
                parameters = proposal.parameters
            predicting = None if raw is None else pool.submit(controller.propose, raw)
            yield shot


def _read(entries: Sequence[RawEntry], notes: list[tuple[str, RawNote]]) -> Iterator[RawFrame]:
    most = RAW_CACHE_BYTES
    frames = LRUCache[int, RawFrame](most, getsizeof=lambda frame: min(frame.mosaic.nbytes, most))
    told = False
    while True:
        for place, entry in enumerate(entries):
            frame = frames.get(place)
            if frame is None:
                found: list[RawNote] = []
                frame = frames[place] = load_raw(entry.path, found)
                notes += [(entry.path.name, note) for note in found if not told]
            _ = frame.hash  # what the device proves its capture with; it costs time, here none of the loop's
            yield frame
        told = True


def _failure(error: FrameFailedError) -> Failure:
    if error.failure is None:
        raise error
    return error.failure
