"""Scene cuts of a stream of RAWs: light and colour of the frame's parts jump, by more than they moved of late.

Noise moves the parts of a frame by hundredths of a stop, a pan by a tenth of the frame's width by half a stop, another
scene by 0.6 to 2 stops.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from drivers.frames import RawFrame

JUMP_STOPS = 0.5
"""Mean change of the parts, in stops, below which nothing is a cut."""
RATIO = 4.0
"""A cut is so many times the median of the changes since the last one, as of a pan or a flickering light …"""
SURE_STOPS = 1.0
"""… but from here on always one."""
_RECENT = 15
_PARTS = 8
_SAMPLES = 1 << 16
_DARK = 1 / 256


class SceneCuts:
    """Says of each frame of a stream whether another scene begins with it."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=_RECENT)

    def seen(self, raw: RawFrame) -> bool:
        """Whether a scene begins with this frame; the first frame of a stream begins none."""
        parts = parts_of(raw)
        before, self._before = self._before, parts
        if before is None:
            return False
        change = float(np.abs(parts - before).mean())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        if change > min(max(JUMP_STOPS, RATIO * usual), SURE_STOPS):
            self._changes.clear()
            return True
        self._changes.append(change)
        return False


def parts_of(raw: RawFrame) -> np.ndarray:
    """Light and colour of a frame's parts: log2 of the means of red, green, blue in 8×8 parts, ``float32 [3, 8, 8]``.

    The cost does not grow with the frame: of a large one every so many pixels are looked at.
    """
    raw = raw.bayer
    step = max(int((raw.height * raw.width / 4 / _SAMPLES) ** 0.5), 1)
    means = {colour: np.zeros((_PARTS, _PARTS), np.float32) for colour in "RGB"}
    for place, colour in enumerate(raw.cfa):
        plane = raw.mosaic[place // 2 :: 2, place % 2 :: 2][::step, ::step].astype(np.float32)
        plane = (plane - raw.black_level[place]) / (raw.white_level - raw.black_level[place])
        means[colour] += cv2.resize(plane, (_PARTS, _PARTS), interpolation=cv2.INTER_AREA) / raw.cfa.count(colour)
    # Near black the noise would tell; a little light added keeps it small.
    return np.log2(np.maximum(np.stack([means[colour] for colour in "RGB"]), 0) + _DARK)
