from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from servers import in_thread

from drivers.agent.outbox import Outbox, Outcome, Send
from drivers.device import Capture
from drivers.frames import RawFrame
from drivers.parameters import parameters_hash
from drivers.protocol import wire
from drivers.protocol.zmq_device import ZmqDevice
from sim.firmware.faults import NAMES, Fault, Faults, FaultsError, load
from sim.firmware.registers import Firmware, emulated
from sim.firmware.zmq_server import serve_firmware
from sim.isp.pipeline import Pipeline

PIPELINE = Pipeline("sim20")
SPACE = PIPELINE.space
RAWS = [RawFrame(np.full((32, 32), dn, np.uint16), "RGGB", (64.0,) * 4, 1023) for dn in (300, 500, 700)]
EXAMPLE = Path(__file__).parents[2] / "docs" / "faults.example.toml"


class TellingIsp:
    """Its output tells which RAW and codes it was given."""

    space = SPACE

    def process(self, raw: RawFrame, parameters: object) -> bytes:
        return f"{raw.hash} {parameters}".encode()


@pytest.fixture
def firmware() -> Firmware:
    return Firmware(TellingIsp(), boot_id="boot")


def request(n: int) -> wire.Process:
    gain = SPACE["digital_gain"]
    assert gain.register is not None
    return wire.process_request(n, RAWS[n % 3], ((gain.register.address, gain.low_code + n),))


def scripted(name: str, *at: int, seconds: float = 0.0) -> Faults:
    return Faults({name: Fault(at=frozenset(at), seconds=seconds)})


def frames(outcome: Outcome) -> list[wire.Frame]:
    messages = [wire.decode(send.parts) for send in outcome.sends]
    assert all(isinstance(m, wire.Frame) for m in messages)
    return messages  # type: ignore[return-value]


def test_without_a_plan_the_answers_are_the_firmwares(firmware: Firmware) -> None:
    twin = Firmware(TellingIsp(), boot_id="boot")
    for message in (wire.Hello(1), wire.Read(2), wire.Process(3, "0" * 64, (), b"{}", b"")):
        (send,) = Faults().answer(firmware, message).sends
        assert send.parts == wire.encode(twin.handle(message))
    (frame,) = frames(Faults().answer(firmware, request(4)))
    assert frame.payload == twin.handle(request(4)).payload  # type: ignore[union-attr]


def test_only_the_frames_of_the_script_are_disturbed(firmware: Firmware) -> None:
    faults = scripted("drop", 2, 4)
    sent = [len(faults.answer(firmware, request(n)).sends) for n in range(1, 6)]
    assert sent == [1, 0, 1, 0, 1]
    assert faults.answer(firmware, wire.Hello(9)).sends
    assert faults.summary == f"faults {json.dumps({'frames': 5, **{n: 2 * (n == 'drop') for n in NAMES}})}"


def test_previous_is_the_frame_before_with_its_own_proof(firmware: Firmware) -> None:
    faults = scripted("previous", 1, 2)
    (first,) = frames(faults.answer(firmware, request(1)))
    (stale,) = frames(faults.answer(firmware, request(2)))
    assert (first.raw_hash, stale.raw_hash) == (RAWS[1].hash, RAWS[1].hash)
    assert (stale.id, stale.frame, stale.registers, stale.payload) == (2, 1, first.registers, first.payload)
    (third,) = frames(faults.answer(firmware, request(3)))
    assert (third.frame, third.raw_hash) == (3, RAWS[0].hash)
    assert faults.counts == {"previous": 1}


def test_a_wrong_hash_is_not_that_of_the_registers(firmware: Firmware) -> None:
    (frame,) = frames(scripted("wrong_hash", 1).answer(firmware, request(1)))
    names = {p.register.address: p.name for p in SPACE.parameters if p.register}
    assert parameters_hash({names[a]: code for a, code in frame.registers}) != frame.parameters_hash


def test_a_device_without_an_echo_has_no_hash_to_be_wrong() -> None:
    faults = scripted("wrong_hash", 1)
    (frame,) = frames(faults.answer(Firmware(TellingIsp(), echo=False), request(1)))
    assert (frame.parameters_hash, frame.registers, faults.counts["wrong_hash"]) == ("", (), 0)


def test_corrupt_flips_one_bit_and_truncate_ends_early(firmware: Firmware) -> None:
    honest = Firmware(TellingIsp(), boot_id="boot").handle(request(1))
    assert isinstance(honest, wire.Frame)
    (corrupt,) = frames(scripted("corrupt", 1).answer(firmware, request(1)))
    flipped = int.from_bytes(honest.payload) ^ int.from_bytes(corrupt.payload)
    assert flipped.bit_count() == 1
    assert corrupt.output_hash == honest.output_hash
    (send,) = scripted("truncate", 1).answer(firmware, request(1)).sends
    assert bytes(honest.payload).startswith(bytes(send.parts[1]))
    with pytest.raises(wire.MessageError, match="the header says") as error:
        wire.decode(send.parts)
    assert error.value.request_id == 1


def test_a_reboot_loses_the_parameters_and_what_waits(firmware: Firmware) -> None:
    faults = Faults({"reboot": Fault(at=frozenset([1])), "previous": Fault(at=frozenset([2]))})
    outcome = faults.answer(firmware, request(1))
    assert (outcome.sends, outcome.forget) == ([], True)
    assert firmware.boot_id != "boot"
    back = firmware.handle(wire.Read(2))
    assert isinstance(back, wire.RegisterValues)
    assert back.parameters_hash == SPACE.defaults.hash
    # A device that has just started has no frame before.
    (frame,) = frames(faults.answer(firmware, request(2)))
    assert (frame.frame, frame.raw_hash) == (1, RAWS[2].hash)
    assert faults.counts == {"reboot": 1}


def test_what_lasts_has_its_seconds(firmware: Firmware) -> None:
    assert scripted("hang", 1, seconds=3).answer(firmware, request(1)).hang_s == 3
    gone = scripted("disappear", 1, seconds=4).answer(firmware, request(1))
    assert (gone.sends, gone.gone_s) == ([], 4)
    (late,) = scripted("delay", 1, seconds=5).answer(firmware, request(1)).sends
    assert (late.delay_s, late.behind_next) == (5, False)


def test_the_same_seed_gives_the_same_faults() -> None:
    def counted(seed: int) -> list[dict[str, int]]:
        faults = Faults({name: Fault(0.1) for name in NAMES}, seed)
        firmware = Firmware(TellingIsp())
        seen = []
        for n in range(1, 200):
            faults.answer(firmware, request(n % 5))
            seen.append(dict(faults.counts))
        return seen

    assert counted(1) == counted(1) != counted(2)
    assert set(counted(1)[-1]) == set(NAMES)


def test_the_outbox_sends_when_due_and_swaps_a_reordered_answer() -> None:
    def outcome(name: str, **how: object) -> Outcome:
        return Outcome([Send([name.encode()], **how)], is_frame=True)  # type: ignore[arg-type]

    def sent(now: float) -> list[str]:
        return [bytes(parts[0]).decode() for _, parts in box.due(now)]

    box = Outbox()
    box.put("peer", outcome("late", delay_s=9), 0)
    box.put("peer", outcome("swapped", delay_s=5, behind_next=True), 0)
    box.put("peer", Outcome([Send([b"info"])]), 0)
    assert sent(0) == ["info"]
    assert box.wait_s(1) == 4
    box.put("peer", outcome("next"), 1)
    assert sent(1) == ["next", "swapped"]
    assert sent(8.9) == []
    assert sent(9) == ["late"]
    box.put("peer", outcome("alone", delay_s=5, behind_next=True), 10)
    assert (sent(14.9), sent(15), box.wait_s(15)) == ([], ["alone"], float("inf"))
    box.put("peer", outcome("lost"), 20)
    box.clear()
    assert sent(99) == []


def test_the_example_file_has_every_fault() -> None:
    faults = load(EXAMPLE)
    assert set(faults.plan) == set(NAMES)
    assert faults.plan["disappear"] == Fault(0.001, frozenset([30]), 0.2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[dorp]\n", "unknown fault 'dorp'; known are previous, "),
        ("drop = 1\n", r"drop: not a table; write \[drop\]"),
        ("[drop]\nseconds = 1\n", "unknown key 'seconds'; known are probability, at"),
        ("[drop]\nprobability = 2\n", "probability 2 is not a number in 0..1"),
        ("[drop]\nprobability = nan\n", "probability nan"),
        ("[hang]\nseconds = -1\n", "seconds -1 is not"),
        ("[drop]\nat = [0]\n", r"at \[0\] is not a list of frame numbers"),
        ("seed = 'x'\n", "seed 'x' is not a whole number"),
        ("[drop\n", "not TOML"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(text)
    with pytest.raises(FaultsError, match=problem) as error:
        load(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match="No such file"):
        load(tmp_path / "none.toml")


# ---- with the driver, over a socket ----------------------------------------------------------------------------------


@pytest.fixture
def serving() -> Iterator[Callable[[Faults], str]]:
    with ExitStack() as servers:
        yield lambda faults: servers.enter_context(
            in_thread(serve_firmware, emulated("sim20"), "127.0.0.1:0", faults=faults)
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_driver_mends_every_fault(serving: Callable[[Faults], str], name: str) -> None:
    faults = scripted(name, 3, 7, seconds=0.05)
    jobs = [(RAWS[n % 3], SPACE.from_unit(np.full(len(SPACE), n / 12))) for n in range(12)]
    with ZmqDevice(serving(faults), 3) as device:
        captures = [c for c in device.process_many(jobs) if isinstance(c, Capture)]
    assert [c.rgb.encoded for c in captures] == [PIPELINE.process(raw, p) for raw, p in jobs]
    assert [c.parameters.hash for c in captures] == [p.hash for _, p in jobs]
    assert faults.counts[name] == 2


def test_two_clients_get_their_own_answers_under_faults(serving: Callable[[Faults], str]) -> None:
    faults = Faults({name: Fault(0.03, seconds=0.02) for name in ("delay", "reorder", "duplicate", "previous")}, 3)
    url = serving(faults)
    sets = [SPACE.from_unit(np.full(len(SPACE), n / 30)) for n in range(30)]
    with ZmqDevice(url, 3) as one, ZmqDevice(url, 3) as other:
        first = one.process_many([(RAWS[0], p) for p in sets])
        second = other.process_many([(RAWS[1], p) for p in sets])
        pairs = list(zip(first, second, strict=True))
    expected = [(PIPELINE.process(RAWS[0], p), PIPELINE.process(RAWS[1], p)) for p in sets]
    made = [(a.rgb.encoded, b.rgb.encoded) for a, b in pairs if isinstance(a, Capture) and isinstance(b, Capture)]
    assert made == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to send to one process")
def test_the_process_prints_the_counts_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text("[duplicate]\nat = [1, 2]\n")
    words = ["sim", "serve", "--zmq", "127.0.0.1:0", "--faults", str(file), "--frame-ms", "1"]
    code = "import sys; from workbench.cli import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        with ZmqDevice(url, 20) as device:
            frame_s = [device.process(RAWS[0], SPACE.defaults).device_s for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert min(frame_s) >= 0.001
    counts = json.loads(out.removeprefix("faults "))
    assert (process.returncode, counts["frames"], counts["duplicate"], counts["drop"]) == (0, 3, 2, 0)
