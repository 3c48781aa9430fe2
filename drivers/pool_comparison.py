"""Whether two boards of a pool are the same device: what they say, and their outputs of the same frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from drivers.device import Capture, DeviceInfo, Failure
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet


@dataclass(frozen=True)
class Answers:
    """What one board made of :func:`check_jobs`."""

    url: str
    info: DeviceInfo
    captures: list[Capture | Failure]


def compared(model: Answers | None, board: Answers, tolerance: int) -> Answers:
    """What the next board is compared with: the first one that answered.

    Raises:
        DeviceError: the board is not like it, or refuses to be compared.
    """
    refused = [result.reason for result in board.captures if isinstance(result, Failure)]
    if len(refused) == len(board.captures):
        raise DeviceError(f"{board.url} refuses every frame that boards are compared with: {refused[0]}")
    if model is None:
        return board
    if board.info.echo != model.info.echo:
        raise DeviceError(
            f"{board.url} and {model.url} do not both say echo: only one of them proves its frames; use it alone"
        )
    if board.info.identity != model.info.identity:
        raise DeviceError(
            f"{board.url} is {board.info.identity}, {model.url} is {model.info.identity}; the devices of a pool need "
            "the same model, firmware and parameters"
        )
    if check_jobs(board.info)[0][0].hash != check_jobs(model.info)[0][0].hash:
        raise DeviceError(
            f"{board.url} and {model.url} take RAWs of different sizes, CFA or bits, so they cannot be compared; use "
            "one of them alone"
        )
    for (_, parameters), mine, theirs in zip(check_jobs(board.info), board.captures, model.captures, strict=True):
        difference = _difference(mine, theirs, tolerance)
        if difference:
            what = "the default parameters" if parameters.hash == board.info.space.defaults.hash else "other parameters"
            raise DeviceError(
                f"{board.url} and {model.url} give different outputs of the same RAW with {what}: {difference}; "
                "use one of them alone, or allow it with --pool-tolerance"
            )
    return model


def check_jobs(info: DeviceInfo) -> list[tuple[RawFrame, ParameterSet]]:
    """What boards are compared with: one generated RAW, 64×64 where they take it, the defaults and one other set."""
    y, x = np.mgrid[:64, :64]
    noise = np.random.default_rng(0).integers(0, 200, (64, 64))
    mosaic = (64 + 40 * x + 15 * y + noise).astype(np.uint16)
    raw = RawFrame(
        mosaic, "RGGB", (64.0,) * 4, 4095, iso=100.0, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5), source="check RAW"
    )
    raw, space = info.input.fitted(raw), info.space
    if info.input.frames > 1:
        raw = replace(raw, earlier=np.repeat(raw.mosaic[None], info.input.frames - 1, axis=0))
    return [(raw, space.defaults), (raw, space.from_unit(np.full(len(space), 0.3)))]


def _difference(mine: Capture | Failure, theirs: Capture | Failure, tolerance: int) -> str:
    """How two outputs differ, or nothing."""
    if isinstance(mine, Failure) or isinstance(theirs, Failure):
        return "" if type(mine) is type(theirs) else "only one of them refuses it"
    if mine.rgb.hash == theirs.rgb.hash:
        return ""
    one, other = mine.rgb.pixels, theirs.rgb.pixels
    if one.shape != other.shape:
        return f"{one.shape[1]}×{one.shape[0]} and {other.shape[1]}×{other.shape[0]} pixels"
    levels = int(np.abs(one.astype(np.int16) - other).max())
    if tolerance and levels <= tolerance:
        return ""
    if not levels:
        return "the same pixels in different bytes"
    return f"up to {levels} levels of 255 apart, {tolerance} are allowed"
