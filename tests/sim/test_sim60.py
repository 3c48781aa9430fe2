"""The profile sim60: a Quad Bayer sensor's mosaic in, NV12 out, vectors and a table over ISO between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from servers import in_thread

from drivers.cfa import CFA_PATTERNS, QUAD_PATTERNS, CfaPattern, as_bayer
from drivers.errors import DeviceError, FrameError, ParameterError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.plain_pictures import PlainPicture
from drivers.protocol import wire
from drivers.registry import open_device
from sim import profiles
from sim.camera.metering import Camera, Shot
from sim.camera.sensor import DEFAULT_SENSOR_SEED, Sensor
from sim.firmware.registers import Firmware, emulated
from sim.firmware.zmq_server import serve_firmware
from sim.isp.band_noise_reduction import edges, reduce_in_bands
from sim.isp.pipelines import open_pipeline
from sim.isp.quad_bayer import binned, enlarged, remosaicked
from sim.isp.video_output import NV12, to_nv12
from sim.scenes.lab_scenes import lab_scene
from sim.scenes.scene_set import through_lens
from workbench.check import conformance
from workbench.check.peer import Peer

SPACE, EXPERT = profiles.space("sim60"), profiles.expert("sim60")
PIPELINE = open_pipeline("sim60")
QUAD = dict(zip(CFA_PATTERNS, QUAD_PATTERNS, strict=True))


def shot(seed: int = 5, side: int = 128, cfa: str = QUAD_PATTERNS[0]) -> tuple[np.ndarray, Shot]:
    picture = through_lens(lab_scene(seed, side))
    return picture, Camera(Sensor(DEFAULT_SENSOR_SEED, cfa)).shoot(picture, np.random.default_rng(seed))


def exposed(taken: Shot, parameters: ParameterSet = EXPERT) -> ParameterSet:
    """The parameters with the gains that the RAW needs."""
    gain = min(max(1 / taken.scale, 0.5), 8.0)
    return parameters.replace(digital_gain=gain, red_gain=taken.wb_gains[0], blue_gain=taken.wb_gains[2])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def developed(raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
    return NV12.pixels(PIPELINE.process(raw, parameters), raw.width, raw.height)


def test_it_has_60_parameters_with_vectors_tables_conditions_and_a_constraint() -> None:
    assert len(SPACE) == 60
    assert {v.form for v in SPACE.vectors} == {"curve", "matrix", "bands", "table"}
    assert [v.name for v in SPACE.vectors if v.form == "table"] == ["raw_nr", "luma_nr", "chroma_nr", "sharpening"]
    assert {p.name for p in SPACE.parameters if p.when} == {"remosaic_detail", "upscaling"}
    with pytest.raises(ParameterError, match="edge_low < edge_high"):
        EXPERT.replace(edge_low=0.5, edge_high=0.25)
    with pytest.raises(ParameterError, match="tone_3 <= tone_4"):
        EXPERT.replace(tone_3=0.9)
    # What does not exist under the choice is at its default, whatever was asked.
    assert EXPERT.replace(quad_mode="binning", remosaic_detail=1.0)["remosaic_detail"] == 0.5


def test_the_same_raw_and_codes_give_the_known_bytes_everywhere() -> None:
    raw = shot(side=64)[1].raw
    for parameters in (SPACE.defaults, EXPERT):
        assert PIPELINE.process(raw, parameters) == open_pipeline("sim60").process(raw, parameters)
    with pytest.raises(ParameterError, match="sim20 given to sim60"):
        PIPELINE.process(raw, profiles.space("sim20").defaults)


def test_every_parameter_that_exists_changes_the_picture() -> None:
    taken = shot(side=64)[1]
    dn = taken.raw.mosaic.copy()
    dn[::20, ::20] = 1500  # defects
    dn[10::20, 10::20] = 3500
    for mode in ("binning", "remosaic"):
        start = exposed(taken).replace(
            quad_mode=mode, local_contrast=0.5, sharpen_radius=1.5, **{f"luma_nr_{i}": 0.5 for i in range(4)}
        )
        for iso in (100.0, 400.0, 1600.0, 6400.0):
            raw = replace(taken.raw, mosaic=dn, iso=iso)
            plain = PIPELINE.process(raw, start)
            for p in SPACE.parameters:
                if (p.when is not None and mode not in p.when.values) or (iso > 100 and not _of_a_table(p.name)):
                    continue
                ends = [start.with_codes({p.name: c}) for c in (p.low_code, p.high_code)]
                changed = any(PIPELINE.process(raw, end) != plain for end in ends)
                at = [100.0, 400.0, 1600.0, 6400.0]
                assert changed == (not _of_a_table(p.name) or at[int(p.name[-1])] == iso), (p.name, mode, iso)


def _of_a_table(name: str) -> bool:
    return any(v.form == "table" and name in v.parameters for v in SPACE.vectors)


@pytest.mark.parametrize("size", [(4, 4), (16, 20), (68, 132)])
def test_the_corners_and_random_sets_give_a_picture_of_the_mosaics_size(size: Any) -> None:
    random = np.random.default_rng(1)
    for trial, cfa in enumerate(QUAD_PATTERNS * 3):
        white = (1023, 4095, 65535)[trial % 3]
        raw = RawFrame(random.integers(0, 65536, size).astype(np.uint16), cfa, (white * 0.1,) * 4, white, iso=100.0)
        for unit in (np.zeros(60), np.ones(60), random.random(60)):
            assert developed(raw, SPACE.from_unit(unit)).shape == (*size, 3)


def test_remosaicking_shows_more_at_low_iso_and_binning_at_high_iso() -> None:
    for seed, iso, better in ((14, 159.0, "remosaic"), (2, 12800.0, "binning")):
        picture, taken = shot(seed)
        assert taken.raw.iso == iso
        chosen = {mode: exposed(taken).replace(quad_mode=mode) for mode in ("binning", "remosaic")}
        found = {mode: psnr(developed(taken.raw, one), picture) for mode, one in chosen.items()}
        assert found[better] == max(found.values()) > min(found.values()) + 1, found


@pytest.mark.parametrize("bayer", CFA_PATTERNS)
def test_binning_and_remosaicking_of_a_smooth_scene_are_the_bayer_mosaic(bayer: CfaPattern) -> None:
    y, x = np.mgrid[:32, :48]
    planes = np.stack([800 + 20 * x, 3000 + 10 * y, 5000 - 15 * x - 5 * y])
    quad, wanted = np.empty((32, 48), np.int16), np.empty((32, 48), np.int16)
    for place, colour in enumerate(QUAD[bayer]):
        quad[place // 4 :: 4, place % 4 :: 4] = planes["RGB".index(colour)][place // 4 :: 4, place % 4 :: 4]
    for place, colour in enumerate(bayer):
        wanted[place // 2 :: 2, place % 2 :: 2] = planes["RGB".index(colour)][place // 2 :: 2, place % 2 :: 2]
    inner = (slice(8, -8), slice(8, -8))
    made = remosaicked(quad, QUAD[bayer], bayer, 0.5)
    assert np.abs(made[inner] - wanted[inner]).max() <= 25
    same = quad == wanted
    assert np.array_equal(made[same], quad[same])
    small = binned(quad)
    assert small.shape == (16, 24)
    assert small[4, 4] == round(quad[8:10, 8:10].mean())
    assert enlarged(np.stack([small] * 3), "bicubic").shape == (3, 32, 48)


def test_the_filters_of_quad_bayer_go_to_bayer_and_back() -> None:
    mosaic = np.arange(8 * 12, dtype=np.int16).reshape(8, 12)
    for cfa in QUAD_PATTERNS:
        moved = as_bayer(cfa, mosaic, (0.0,) * 4)[1]
        assert np.array_equal(as_bayer(cfa, moved, (0.0,) * 4)[1], mosaic)


def test_each_band_has_its_own_noise_reduction_and_edges_are_kept() -> None:
    noise = (np.random.default_rng(0).standard_normal((128, 128)) * 100 + 2000).astype(np.int16)
    coarse = cv2.resize(noise[:16, :16], (128, 128), interpolation=cv2.INTER_CUBIC)

    def left(plane: np.ndarray, band: int) -> float:
        return float(reduce_in_bands(plane, np.eye(4)[band]).std() / plane.std())

    assert left(noise, 0) < 0.6 < 0.9 < left(noise, 3)
    assert left(coarse, 3) < 0.8 < 0.95 < left(coarse, 0)
    assert reduce_in_bands(noise, np.zeros(4)) is noise
    step = np.full((32, 32), 500, np.int16)
    step[:, 16:] = 3000
    keep = edges(step, 0.1, 0.4)
    assert keep[:, 15:17].min() == 1
    assert keep[:, :12].max() == 0
    assert np.array_equal(reduce_in_bands(step, np.ones(4), np.ones((32, 32), np.float32)), step)


def test_nv12_reads_back_as_the_picture() -> None:
    smooth = cv2.GaussianBlur(lab_scene(3, 64), (0, 0), 3)
    data = to_nv12(smooth.transpose(2, 0, 1))
    assert len(data) == 64 * 64 * 3 // 2
    assert psnr(NV12.pixels(data, 64, 64), smooth) > 40
    red = np.zeros((3, 2, 2), np.uint8)
    red[0] = 255
    assert NV12.pixels(to_nv12(red), 2, 2)[0, 0].tolist() == [254, 0, 0]


@pytest.mark.parametrize("cfa", QUAD_PATTERNS)
def test_the_sensor_takes_quad_bayer_raws(cfa: str) -> None:
    picture, taken = shot(2, 64, cfa)
    raw = taken.raw
    assert (raw.cfa, raw.cfa_kind, raw.mosaic.shape) == (cfa, "quad", (64, 64))
    # Seen as Bayer, it is what a Bayer sensor of the same filters sees, within noise and half the sharpness.
    twin = Camera(Sensor(DEFAULT_SENSOR_SEED, raw.bayer.cfa)).shoot(picture, np.random.default_rng(2)).raw
    assert raw.black_level == twin.black_level
    assert np.abs(raw.planes().mean(axis=(1, 2)) - twin.planes().mean(axis=(1, 2))).max() < 0.006
    with pytest.raises(FrameError, match="multiples of 4"):
        shot(2, 66, cfa)


@pytest.fixture
def url() -> Iterator[str]:
    with in_thread(serve_firmware, emulated("sim60"), "127.0.0.1:0") as url:
        yield url


def test_in_process_and_over_zeromq_it_is_the_same_device(url: str) -> None:
    raw = shot(side=64)[1].raw
    with open_device("sim:sim60") as here, open_device(url) as there:
        assert here.info().identity == there.info().identity
        assert (here.info().input, here.info().output) == (there.info().input, there.info().output)
        mine = there.info().space.take(EXPERT)
        one, other = here.process(raw, EXPERT), there.process(raw, mine)
        assert one.rgb.encoded == other.rgb.encoded
        assert one.rgb.media_type == "image/png"
        bayer = replace(raw, cfa="RGGB")
        for device in (here, there):
            with pytest.raises(DeviceError, match="its CFA is RGGB, the device takes RRGG"):
                device.process(bayer, device.info().space.defaults)


def test_device_check_passes(url: str) -> None:
    with open_device(url) as device:
        peer = Peer(device.open_link, 30.0, shot(side=64)[1].raw)  # type: ignore[attr-defined]
        try:
            results = list(conformance.check(peer))
        finally:
            peer.close()
    assert len(results) > 50
    assert [r for r in results if r.outcome != "pass"] == []


def test_what_is_no_file_is_filtered_over_time_and_photographed() -> None:
    filtering = Firmware(PIPELINE, temporal_filter=0.5, raw_input=PIPELINE.input, output=PIPELINE.output)
    raws = [shot(seed, 32)[1].raw for seed in (1, 2)]
    frames = []
    for number, raw in enumerate([raws[0], *[raws[1]] * 12], start=1):
        answer = filtering.handle(wire.process_request(number, raw, ()))
        assert isinstance(answer, wire.Frame), answer
        frames.append(bytes(answer.payload))
    own = PIPELINE.process(raws[1], SPACE.defaults)
    assert frames[1] != own
    assert frames[-1] == own
    assert PlainPicture(own).media_type == "video/raw"
