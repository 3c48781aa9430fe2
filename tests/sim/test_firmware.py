from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import DeviceError, FrameError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.protocol import wire
from drivers.raw.raw_files import save_npz
from drivers.registers import Bank
from sim.firmware.live import camera
from sim.firmware.registers import Firmware

SPACE = ParameterSpace.from_dict(
    {
        "name": "two",
        "parameters": [
            {
                "name": "gain",
                "block": "gain",
                "kind": "integer",
                "low": -8,
                "high": 8,
                "default": 1,
                "register": {"address": 0x100, "width": 8, "signed": True},
            },
            {
                "name": "invert",
                "block": "tone",
                "kind": "bool",
                "default": False,
                "register": {"address": 0x102, "width": 8},
            },
        ],
    }
)
GAIN, INVERT = 0x100, 0x102


class EchoIsp:
    """Stands in for the ISP: its output tells which RAW and codes it was given."""

    space = SPACE
    broken = False

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        if self.broken:
            raise ValueError("a block burnt out")
        return f"{raw.hash} {parameters.codes}".encode()


RAW = RawFrame(np.full((4, 6), 500, np.uint16), "RGGB", (64.0,) * 4, 1023)


@pytest.fixture
def firmware() -> Firmware:
    return Firmware(EchoIsp(), boot_id="boot", max_payload=64)


def process(firmware: Firmware, *registers: tuple[int, int]) -> wire.Frame:
    answer = firmware.handle(wire.process_request(1, RAW, registers))
    assert isinstance(answer, wire.Frame), answer
    return answer


def read(firmware: Firmware, bank: Bank = "active") -> dict[int, int]:
    answer = firmware.handle(wire.Read(1, bank))
    assert isinstance(answer, wire.RegisterValues)
    return dict(answer.registers)


def refused(firmware: Firmware, message: wire.Message) -> str:
    answer = firmware.handle(message)
    assert isinstance(answer, wire.Error)
    assert answer.id == message.id
    return answer.code


def test_power_on_gives_the_defaults(firmware: Firmware) -> None:
    assert read(firmware) == read(firmware, "shadow") == {GAIN: 1, INVERT: 0}


def test_info(firmware: Firmware) -> None:
    info = firmware.handle(wire.Hello(3))
    assert isinstance(info, wire.Info)
    assert (info.id, info.boot_id, info.max_payload, info.space.hash) == (3, "boot", 64, SPACE.hash)


def test_every_start_has_its_own_boot_id() -> None:
    assert Firmware(EchoIsp()).boot_id != Firmware(EchoIsp()).boot_id


def test_a_write_is_latched_at_the_next_frame(firmware: Firmware) -> None:
    back = firmware.handle(wire.Write(1, ((GAIN, -3),)))
    assert isinstance(back, wire.RegisterValues)
    assert (back.bank, back.registers) == ("shadow", ((GAIN, -3),))
    assert read(firmware) == {GAIN: 1, INVERT: 0}
    frame = process(firmware, (INVERT, 1))
    assert dict(frame.registers) == {GAIN: -3, INVERT: 1}
    assert read(firmware) == {GAIN: -3, INVERT: 1}


def test_a_frame_proves_what_made_it(firmware: Firmware) -> None:
    frame = process(firmware, (GAIN, 5), (INVERT, 1))
    parameters = ParameterSet(SPACE, (5, 1))
    assert bytes(frame.payload) == f"{RAW.hash} (5, 1)".encode()
    assert frame.parameters_hash == parameters.hash
    assert frame.raw_hash == RAW.hash
    assert frame.output_hash == hashlib.sha256(frame.payload).hexdigest()
    assert (frame.boot_id, frame.frame) == ("boot", 1)
    assert process(firmware).frame == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(-8, 8), st.booleans()), max_size=12))
@settings(deadline=None)
def test_a_frame_is_made_with_the_last_codes_written(steps: list[tuple[bool, int, bool]]) -> None:
    firmware = Firmware(EchoIsp())
    shadow = active = {GAIN: 1, INVERT: 0}
    for is_frame, gain, invert in steps:
        registers = ((GAIN, gain),) if is_frame else ((GAIN, gain), (INVERT, int(invert)))
        shadow = {**shadow, **dict(registers)}
        if is_frame:
            active = shadow
            assert dict(process(firmware, *registers).registers) == active
        else:
            firmware.handle(wire.Write(1, registers))
        assert (read(firmware), read(firmware, "shadow")) == (active, shadow)


def test_bad_registers_are_refused_and_change_nothing(firmware: Firmware) -> None:
    for registers, code in ((((GAIN, 5), (0x999, 1)), "bad_register"), (((INVERT, 1), (GAIN, 9)), "bad_code")):
        assert refused(firmware, wire.Write(1, registers)) == code
        assert refused(firmware, wire.process_request(2, RAW, registers)) == code
    assert refused(firmware, wire.Read(1, "active", (0x101,))) == "bad_register"
    assert read(firmware) == read(firmware, "shadow") == {GAIN: 1, INVERT: 0}
    assert firmware.frame == 0


def test_bad_raws_are_refused_and_change_nothing(firmware: Firmware) -> None:
    good = wire.process_request(4, RAW, ((GAIN, 5),))
    damaged = bytearray(good.payload)
    damaged[3] ^= 1
    large = RawFrame(np.full((6, 6), 500, np.uint16), "RGGB", (64.0,) * 4, 1023)
    assert refused(firmware, wire.Process(4, RAW.hash, good.registers, good.metadata, bytes(damaged))) == "raw_hash"
    assert refused(firmware, wire.Process(4, RAW.hash, good.registers, b"{}", good.payload)) == "bad_raw"
    assert refused(firmware, wire.process_request(4, large, ((GAIN, 5),))) == "too_large"
    assert read(firmware, "shadow") == {GAIN: 1, INVERT: 0}


def test_answers_are_not_requests(firmware: Firmware) -> None:
    assert refused(firmware, wire.Error(5, "busy", "")) == "unsupported"


def test_a_broken_isp_is_reported_and_the_firmware_lives(firmware: Firmware) -> None:
    isp = firmware.pipeline
    assert isinstance(isp, EchoIsp)
    isp.broken = True
    answer = firmware.handle(wire.process_request(1, RAW, ()))
    assert isinstance(answer, wire.Error)
    assert (answer.code, answer.text) == ("failed", "the ISP failed: a block burnt out")
    isp.broken = False
    assert process(firmware).frame == 2


def test_a_parameter_without_register_is_refused() -> None:
    data = SPACE.to_dict()
    data["parameters"][0]["register"] = None
    isp = EchoIsp()
    isp.space = ParameterSpace.from_dict(data)
    with pytest.raises(DeviceError, match="gain has no register"):
        Firmware(isp)


# ---- untidy devices --------------------------------------------------------------------------------------------------


class FlatIsp:
    """Its output is one grey, told by the gain."""

    space = SPACE

    def process(self, raw: RawFrame, parameters: ParameterSet) -> bytes:
        return RgbFrame.from_pixels(np.full((4, 6, 3), 100 + 10 * int(parameters["gain"]), np.uint8)).encoded


def greys(firmware: Firmware, *gains: int) -> list[int]:
    return [int(RgbFrame(bytes(process(firmware, (GAIN, g)).payload)).pixels[0, 0, 0]) for g in gains]


def test_codes_come_into_force_late() -> None:
    firmware = Firmware(FlatIsp(), latch_frames=2)
    assert greys(firmware, 5, 5, 5, 7, 7, 7) == [110, 110, 150, 150, 150, 170]
    frame = process(firmware, (GAIN, 0))
    assert dict(frame.registers)[GAIN] == read(firmware)[GAIN] == 7
    assert read(firmware, "shadow")[GAIN] == 0
    firmware.reboot()
    assert greys(firmware, 5, 5, 5) == [110, 110, 150]


def test_without_an_echo_nothing_tells_that_codes_are_late() -> None:
    firmware = Firmware(FlatIsp(), latch_frames=2, echo=False)
    info = firmware.handle(wire.Hello(1))
    assert isinstance(info, wire.Info)
    assert not info.echo
    frame = process(firmware, (GAIN, 5))
    assert (frame.parameters_hash, frame.registers) == ("", ())
    assert read(firmware) == {GAIN: 5, INVERT: 0}
    assert wire.decode(wire.encode(frame)) == frame


def test_a_temporal_filter_mixes_and_settles_on_the_very_bytes() -> None:
    firmware = Firmware(FlatIsp(), temporal_filter=0.5)
    assert greys(firmware, 0, 8, 8, 8) == [100, 140, 160, 170]
    assert greys(firmware, *[8] * 8)[-1] == 180
    assert process(firmware, (GAIN, 8)).payload == FlatIsp().process(RAW, SPACE.parse({"gain": 8, "invert": False}))
    firmware.reboot()
    assert greys(firmware, 0) == [100]


def test_a_filter_that_never_settles_is_refused() -> None:
    with pytest.raises(DeviceError, match="temporal filter 1 is not"):
        Firmware(FlatIsp(), temporal_filter=1.0)


def test_a_live_device_gives_the_raw_with_its_frame() -> None:
    firmware = Firmware(EchoIsp(), camera=lambda: RAW)
    info = firmware.handle(wire.Hello(1))
    assert isinstance(info, wire.Info)
    assert info.live
    answer = firmware.handle(wire.CaptureRequest(2, ((GAIN, 5),)))
    frame = wire.decode(wire.encode(answer))
    assert isinstance(frame, wire.Frame)
    assert wire.raw_frame(frame).hash == frame.raw_hash == RAW.hash
    assert bytes(frame.payload) == f"{RAW.hash} (5, 0)".encode()
    assert dict(frame.registers)[GAIN] == 5
    assert refused(firmware, wire.process_request(3, RAW, ())) == "unsupported"
    assert refused(Firmware(EchoIsp()), wire.CaptureRequest(4, ())) == "unsupported"


def test_a_live_device_whose_camera_fails_lives() -> None:
    def broken() -> RawFrame:
        raise FrameError("no light")

    firmware = Firmware(EchoIsp(), camera=broken)
    assert [refused(firmware, wire.CaptureRequest(n, ())) for n in (1, 2)] == ["failed", "failed"]


def test_what_is_before_the_emulated_camera(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="holds no RAW files"):
        camera(tmp_path)
    with pytest.raises(FrameError, match="no folder of RAWs"):
        camera(tmp_path / "none")
    other = RawFrame(np.full((4, 6), 600, np.uint16), "RGGB", (64.0,) * 4, 1023)
    save_npz(tmp_path / "a.npz", RAW)
    save_npz(tmp_path / "b.npz", other)
    shoot = camera(tmp_path)
    assert [shoot().hash for _ in range(3)] == [RAW.hash, other.hash, RAW.hash]
    one, two = camera(Path("lab")), camera(Path("lab"))
    assert [one().hash for _ in range(2)] == [two().hash for _ in range(2)]
    assert one().hash != one().hash
