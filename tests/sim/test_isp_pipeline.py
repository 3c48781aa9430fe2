"""The emulated ISP of Bayer sensors as a whole: sim20 and sim32."""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.cfa import CFA_PATTERNS, CfaPattern
from drivers.errors import ParameterError
from drivers.frames import RawFrame, RgbFrame
from sim import profiles
from sim.isp.pipeline import Pipeline

BAYER = ("sim20", "sim32")
# A plausible camera: balanced camera RGB → linear sRGB, and its channels' sensitivity under daylight.
MATRIX = ((1.70, -0.55, -0.15), (-0.22, 1.50, -0.28), (0.03, -0.48, 1.45))
DAYLIGHT = {"red_gain": 2.0, "blue_gain": 1.6, "digital_gain": 1.6}


@pytest.fixture(scope="module", params=BAYER)
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline(request.param)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return np.asarray(cv2.resize(data.astronaut(), (192, 192), interpolation=cv2.INTER_AREA))


def simulate(
    picture: np.ndarray,
    cfa: CfaPattern = "RGGB",
    bits: int = 12,
    shot: float = 0.0005,
    read: float = 1e-3,
    seed: int = 0,
) -> RawFrame:
    """A RAW of a picture uint8 [H, W, 3] as a daylight camera would take it (unprocessing after Brooks 2019)."""
    display = picture.astype(np.float64) / 255
    linear = np.maximum(0.5 - np.sin(np.arcsin(1 - 2 * display) / 3), 0) ** 2.2
    camera = linear @ np.linalg.inv(np.array(MATRIX)).T
    camera /= DAYLIGHT["digital_gain"] * np.array([DAYLIGHT["red_gain"], 1.0, DAYLIGHT["blue_gain"]])
    mosaic = np.empty(picture.shape[:2])
    for i, colour in enumerate(cfa):
        mosaic[i // 2 :: 2, i % 2 :: 2] = camera[i // 2 :: 2, i % 2 :: 2, "RGB".index(colour)]
    mosaic = np.clip(mosaic, 0, 1)
    rng = np.random.default_rng(seed)
    mosaic += rng.standard_normal(mosaic.shape) * np.sqrt(shot * mosaic + read**2)
    white = 2**bits - 1
    black = white // 16
    dn = np.clip(np.rint(black + mosaic * (white - black)), 0, white).astype(np.uint16)
    return RawFrame(dn, cfa, (black,) * 4, white, colour_matrix=MATRIX)


def integer_raw(height: int = 64, width: int = 64, cfa: CfaPattern = "RGGB") -> RawFrame:
    """A RAW from integer arithmetic alone, with texture, colour and a few defects."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    mosaic = 300 + (x * 37 + y * 23) % 1700 + ((x * x + 3 * y * y) // 7) % 900 + ((x * 7919 + y * 104729) % 257)
    mosaic[::17, ::13] = 4095
    return RawFrame(mosaic.astype(np.uint16), cfa, (256, 256, 258, 255), 4095)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def pixels(data: bytes) -> np.ndarray:
    return RgbFrame(data).pixels


def test_same_raw_and_codes_give_the_same_bytes_in_every_instance(pipeline: Pipeline) -> None:
    raw = integer_raw()
    for parameters in (pipeline.space.defaults, profiles.expert(pipeline.space.name)):
        once = pipeline.process(raw, parameters)
        assert once == pipeline.process(raw, parameters)
        assert once == Pipeline(pipeline.space.name).process(integer_raw(), pipeline.space.from_unit(parameters.unit))


@pytest.mark.parametrize(
    ("profile", "method", "digest"),
    [
        ("sim20", "bilinear", "2a0ec467fe31994d"),
        ("sim20", "malvar", "4604392b19407ade"),
        ("sim20", "edge_aware", "694b51d430e40606"),
    ],
)
def test_the_integer_stages_give_the_known_output(profile: str, method: str, digest: str) -> None:
    # Where this changes on purpose, VERSION in sim/isp/pipeline.py has to be raised with it.
    pipeline = Pipeline(profile)
    linear = pipeline.linear(integer_raw(), pipeline.space.defaults.replace(demosaic=method, digital_gain=1.75))
    assert hashlib.sha256(linear.astype("<i2").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (16, 130), (194, 130), (6, 400)])
def test_the_output_has_the_size_of_the_mosaic(pipeline: Pipeline, size: Any) -> None:
    raw = integer_raw(*size)
    assert pixels(pipeline.process(raw, pipeline.space.defaults)).shape == (*size, 3)
    lower, upper = np.zeros(len(pipeline.space)), np.ones(len(pipeline.space))
    for corner in (lower, upper):
        assert pixels(pipeline.process(raw, pipeline.space.from_unit(corner))).shape == (*size, 3)


@pytest.mark.parametrize("profile", BAYER)
def test_random_parameters_and_raws_always_give_a_picture(profile: Any) -> None:
    pipeline = Pipeline(profile)
    rng = np.random.default_rng(9)
    for trial in range(40):
        white = int(rng.choice([255, 1023, 4095, 16383, 65535]))
        mosaic = rng.integers(0, 65536, (16, 18)).astype(np.uint16)
        cfa: Any = CFA_PATTERNS[trial % 4]
        black: Any = tuple(float(b) for b in rng.uniform(0, white * 0.9, 4))
        raw = RawFrame(mosaic, cfa, black, white)
        parameters = pipeline.space.from_unit(rng.random(len(pipeline.space)))
        assert pixels(pipeline.process(raw, parameters)).shape == (16, 18, 3)


def test_every_parameter_changes_the_output(pipeline: Pipeline, photograph: np.ndarray) -> None:
    raw = simulate(photograph, shot=0.002)
    mosaic = raw.mosaic.copy()
    mosaic[::20, ::20] = 1200  # defects of two heights, one below the middle threshold and one above
    mosaic[10::20, 10::20] = 2700
    raw = RawFrame(mosaic, raw.cfa, raw.black_level, raw.white_level, colour_matrix=raw.colour_matrix)
    start = pipeline.space.defaults.replace(**DAYLIGHT, jpeg_quality=95)
    if pipeline.space.name == "sim32":
        start = start.replace(local_contrast=0.5, sharpen_amount=2.0)
    plain = pipeline.process(raw, start)
    for parameter in pipeline.space.parameters:
        seen = {plain}
        for code in (parameter.low_code, parameter.high_code):
            changed = start.replace(**{parameter.name: parameter.from_code(code)})
            seen.add(pipeline.process(raw, changed))
        # Both ends differ from each other and from the start, unless the start is one of them.
        at_an_end = start[parameter.name] in (
            parameter.from_code(parameter.low_code),
            parameter.from_code(parameter.high_code),
        )
        assert len(seen) == (2 if at_an_end else 3), parameter.name


@pytest.mark.parametrize("cfa", CFA_PATTERNS)
@pytest.mark.parametrize("bits", [10, 14, 16])
def test_a_clean_smooth_scene_comes_back_for_every_cfa_order_and_bit_depth(
    photograph: np.ndarray, cfa: Any, bits: int
) -> None:
    smooth = cv2.GaussianBlur(photograph, (0, 0), 4)
    pipeline = Pipeline("sim20")
    raw = simulate(smooth, cfa=cfa, bits=bits, shot=0, read=0)
    parameters = profiles.expert("sim20").replace(
        **DAYLIGHT, contrast=1.0, raw_nr_strength=0.0, sharpen_amount=0.0, jpeg_quality=100
    )
    assert psnr(pixels(pipeline.process(raw, parameters)), smooth) > 38


def test_the_expert_is_visibly_better_than_the_default(pipeline: Pipeline, photograph: np.ndarray) -> None:
    expert = profiles.expert(pipeline.space.name)
    for shot in (0.0002, 0.001, 0.004):
        raw = simulate(photograph, shot=shot)
        default_psnr = psnr(pixels(pipeline.process(raw, pipeline.space.defaults)), photograph)
        assert psnr(pixels(pipeline.process(raw, expert)), photograph) > default_psnr + 6


def test_parameters_of_another_space_are_refused(pipeline: Pipeline) -> None:
    other = next(name for name in BAYER if name != pipeline.space.name)
    with pytest.raises(ParameterError, match=f"{other} given to {pipeline.space.name}"):
        pipeline.process(integer_raw(), profiles.space(other).defaults)


def test_a_profile_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"sim99.*sim20, sim32"):
        Pipeline("sim99")


def test_sim32_with_its_own_parameters_neutral_is_sim20() -> None:
    raw = integer_raw()
    shared, rich = Pipeline("sim20"), Pipeline("sim32")
    # Sharpening aside: sim32 limits its overshoot always.
    values = {**profiles.expert("sim20").values, "sharpen_amount": 0.0}
    assert shared.process(raw, shared.space.parse(values)) == rich.process(raw, rich.space.parse(values, partial=True))


def test_processing_leaves_the_raw_as_it_was(pipeline: Pipeline) -> None:
    raw = integer_raw()
    before = raw.mosaic.copy()
    pipeline.process(raw, pipeline.space.defaults)
    assert np.array_equal(raw.mosaic, before)
