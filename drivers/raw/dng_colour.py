"""As-shot white balance and colour matrix from a DNG's own tags (DNG specification, "Mapping Camera Color Space").

One rule for the matrix: of the file's ``ColorMatrix`` tags that of the illuminant nearest to D65, with its
``CameraCalibration`` and ``AnalogBalance``. ``ForwardMatrix`` tags and profiles are left aside.
"""

from __future__ import annotations

import numpy as np

from drivers.raw.tiff_tags import Directory, one

# ColorMatrix, CalibrationIlluminant, CameraCalibration of the up to three calibrations of a file.
_CALIBRATIONS = ((50721, 50778, 50723), (50722, 50779, 50724), (52531, 52529, 52530))
_ANALOG_BALANCE, _AS_SHOT_NEUTRAL, _AS_SHOT_WHITE_XY = 50727, 50728, 50729
_KELVIN = {
    1: 5500, 2: 4150, 3: 2850, 4: 5500, 9: 5500, 10: 6500, 11: 7500, 12: 6430, 13: 5050, 14: 4150, 15: 3525, 16: 2925,
    17: 2856, 18: 4874, 19: 6774, 20: 5503, 21: 6504, 22: 7504, 23: 5003, 24: 3200,
}  # fmt: skip
_D65_KELVIN = 6504


def cam_from_xyz(tags: Directory) -> np.ndarray | None:
    """XYZ → camera RGB under the illuminant nearest to D65, ``float64 [3, 3]``; None where the file has none.

    Args:
        tags: the file's first directory.
    """
    known = _calibrations(tags)
    if not known:
        return None
    if any(kelvin == 0 for kelvin, _ in known):
        return known[0][1]  # the file does not say which light a matrix is for: the first, as the specification does
    return min(known, key=lambda k: abs(1 / k[0] - 1 / _D65_KELVIN))[1]


def states_matrix(tags: Directory) -> bool:
    """Whether the file has a colour matrix at all, be it one of no use."""
    return any(matrix in tags for matrix, _, _ in _CALIBRATIONS)


def white_balance_of(tags: Directory) -> tuple[tuple[float, float, float] | None, str]:
    """The file's gains (green = 1) and the tag that says them; ``(None, "")`` where none does, or three ones.

    A neutral that is not three numbers above 0 is ``(None, "AsShotNeutral")``.
    """
    neutral = tags.get(_AS_SHOT_NEUTRAL)
    name = "AsShotNeutral"
    if neutral is None and (xy := tags.get(_AS_SHOT_WHITE_XY)) is not None and len(xy) == 2:
        name = "AsShotWhiteXY"
        neutral = _neutral_of(tags, *xy)
    if neutral is None:
        return None, ""
    if len(neutral) != 3 or not np.all(np.isfinite(neutral)) or min(neutral) <= 0:
        return None, name
    if neutral[0] == neutral[1] == neutral[2]:
        return None, ""
    return (round(neutral[1] / neutral[0], 6), 1.0, round(neutral[1] / neutral[2], 6)), name


def _neutral_of(directory: Directory, x: float, y: float) -> tuple[float, ...] | None:
    known = _calibrations(directory)
    if not known or not (0 < x < 1 and 0 < y < 1 and x + y <= 1):
        return None
    matrix = known[0][1]
    if all(kelvin > 0 for kelvin, _ in known):
        matrix = _interpolated(known, _kelvin_of(x, y))
    return tuple((matrix @ np.array([x / y, 1, (1 - x - y) / y])).tolist())


def _calibrations(directory: Directory) -> list[tuple[float, np.ndarray]]:
    """Colour temperature (0: not known) and XYZ → camera RGB of each of the file's calibrations."""
    balance = np.diag(_numbers(directory, _ANALOG_BALANCE, 3, np.ones(3)))
    found = []
    for matrix_tag, light_tag, calibration_tag in _CALIBRATIONS:
        matrix = _numbers(directory, matrix_tag, 9, None)
        if matrix is None or not np.any(matrix):
            continue
        # The calibration holds only where the profile was made for it; a signature that is left out is an empty one.
        signed = directory.get(50931, ()) == directory.get(50932, ())
        calibration = _numbers(directory, calibration_tag, 9, np.eye(3)) if signed else np.eye(3)
        light = one(directory.get(light_tag)) or 0
        found.append((float(_KELVIN.get(int(light), 0)), balance @ calibration.reshape(3, 3) @ matrix.reshape(3, 3)))
    return found


def _numbers(directory: Directory, tag: int, count: int, default: np.ndarray | None) -> np.ndarray:
    values = directory.get(tag)
    if values is None or len(values) != count or not np.all(np.isfinite(values)):
        return default  # type: ignore[return-value]
    return np.array(values, dtype=np.float64)


def _interpolated(known: list[tuple[float, np.ndarray]], kelvin: float) -> np.ndarray:
    """Between the two neighbouring temperatures, linear in 1/T; the nearest outside of them."""
    known = sorted(known, key=lambda k: -k[0])
    inverse = [1 / k for k, _ in known]
    matrices = np.array([m for _, m in known])
    return np.array([np.interp(1 / kelvin, inverse, column) for column in matrices.reshape(-1, 9).T]).reshape(3, 3)


def _kelvin_of(x: float, y: float) -> float:
    """Correlated colour temperature by McCamy's cubic, within 2,000..50,000 K as in the specification."""
    n = (x - 0.3320) / (0.1858 - y) if y != 0.1858 else 0.0
    return float(np.clip(449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33, 2000, 50_000))
