"""How a device's picture lies on its RAW: as the crop, scale and orientation say that INFO tells (section 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.geometry import Geometry
from drivers.orientation import ORIENTATIONS, UPRIGHT, to_sensor
from drivers.protocol import wire
from workbench.check.charts import blocks_for
from workbench.check.peer import Peer, Requirement
from workbench.check.requirements import NotMetError, NotTriedError, expect, needs

_SHOWN = 0.3
"""Correlation with the chart below which a picture shows too little of it."""
_CLEARLY = 0.05


def _as_told(peer: Peer) -> None:
    needs(not peer.info.live, "a live device photographs what is before it")
    raw, told = blocks_for(peer.info.input, "blocks"), peer.info.output
    if refusal := told.refusal(raw.width, raw.height):
        raise NotTriedError(f"the chart: {refusal}")
    frame = peer.frame(peer.by_address(peer.info.space.defaults), raw)
    size = told.picture_size(raw.width, raw.height)
    as_it_came = dataclasses.replace(told, crop=(0, 0, 0, 0), scale=(1, 1), orientation=UPRIGHT)
    try:
        picture = wire.picture(frame, as_it_came, *size)
        picture.check(*size)
        given = picture.pixels.astype(np.float64).mean(axis=2)
    except FrameError as error:
        raise NotMetError(str(error)) from error
    found = {how: _likeness(given, raw, geometry) for how, geometry in _others(told, raw)}
    best = max(found, key=found.__getitem__)
    own = _likeness(given, raw, told)
    needs(max(own, found[best]) >= _SHOWN, "with its default parameters the picture shows too little of the chart")
    expect(
        found[best] <= own + _CLEARLY,
        f"the picture lies as {best} would, not as INFO says (correlation {found[best]:.2f}, not {own:.2f})",
    )


def _others(told: Geometry, raw: RawFrame) -> Iterator[tuple[str, Geometry]]:
    """What a device may have done in place of what it says, of the same size of picture."""
    size = told.picture_size(raw.width, raw.height)
    left, top, right, bottom = told.crop
    width, height = size[::-1] if told.orientation >= 5 else size
    across, down = raw.width - width, raw.height - height
    crops = [(right, top, left, bottom), (left, bottom, right, top), (right, bottom, left, top)]
    crops += [(0, 0, left + right, top + bottom), (left + right, top + bottom, 0, 0)]
    others = [(f"crop {' '.join(map(str, crop))}", dataclasses.replace(told, crop=crop)) for crop in crops]
    if min(across, down) > 0:
        for x, y in ((0, 0), (across // 2, down // 2)):
            window = (x, y, across - x, down - y)
            others.append(
                (f"crop {' '.join(map(str, window))} unscaled", dataclasses.replace(told, crop=window, scale=(1, 1)))
            )
    others += [(f"orientation {o}", dataclasses.replace(told, orientation=o)) for o in ORIENTATIONS]
    yield from (other for other in others if other[1].picture_size(raw.width, raw.height) == size)


def _likeness(given: np.ndarray, raw: RawFrame, geometry: Geometry) -> float:
    """Correlation of a picture, ``float64 [H, W]``, with the RAW as that geometry gives it; of negatives too."""
    left, top, right, bottom = geometry.crop
    shown: np.ndarray = raw.mosaic[top : raw.height - bottom, left : raw.width - right].astype(np.float64)
    n, d = geometry.scale
    if n != d:
        size = shown.shape[1] * n // d, shown.shape[0] * n // d
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA if n < d else cv2.INTER_LINEAR)
    shown = to_sensor(shown, geometry.orientation)
    if not given.std() or not shown.std():
        return 0.0
    return abs(float(np.corrcoef(given.ravel(), shown.ravel())[0, 1]))


REQUIREMENTS = (Requirement("FRAME's picture lies on the RAW as INFO says", "4", _as_told),)
