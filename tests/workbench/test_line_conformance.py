from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest
from servers import in_thread
from typer.testing import CliRunner

from drivers.agent import serial_link
from drivers.protocol.serial_device import open_stream, parse
from drivers.protocol.serial_end import SerialEnd
from drivers.protocol.serial_framing import ACK, DATA, OPENED, RESET, FrameReader, LinkFrame, encode_frame
from sim.firmware.registers import Firmware
from sim.firmware.serial_server import serve_firmware
from sim.isp.pipeline import Pipeline
from workbench.check import conformance, line_conformance
from workbench.commands import device

RUN = CliRunner()
PIPELINE = Pipeline("sim20")
MULTIPART = {"Three parts are refused", "An empty header is refused", "No client gets another's answers"}


@pytest.fixture
def url() -> Iterator[str]:
    with in_thread(serve_firmware, Firmware(PIPELINE), "socket://127.0.0.1:0") as url:
        yield url


def test_the_emulator_passes_all(url: str) -> None:
    told = RUN.invoke(device.app, ["check", url, "--deadline", "30"], catch_exceptions=False)
    *lines, summary = told.stdout.splitlines()
    assert told.exit_code == 0
    assert {line.split()[0] for line in lines} == {"pass", "skipped"}
    skipped = [line for line in lines if line.startswith("skipped")]
    assert [any(title in line for title in MULTIPART) for line in skipped] == [True] * 2
    assert "and 1 more: the transport cannot carry such a message" in skipped[0]
    count = len(conformance.requirements()) + len(line_conformance.REQUIREMENTS)
    assert summary == f"{count - 3} passed, 0 failed, 3 skipped"


Change = Callable[[LinkFrame], LinkFrame | None]


def changed(change: Callable[[], Change]) -> type[SerialEnd]:
    """An end whose frames go through a function of its own; what it gives None for is lost."""

    class Changed(SerialEnd):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)  # type: ignore[arg-type]
            self._change = change()

        def outgoing(self, now: float) -> bytes:
            frames = map(self._change, FrameReader().feed(super().outgoing(now)))
            return b"".join(encode_frame(f.kind, f.session, f.body) for f in frames if f)

    return Changed


def without(kind: int) -> Change:
    return lambda frame: None if frame.kind == kind else frame


def only_once() -> Change:
    seen = set()

    def change(frame: LinkFrame) -> LinkFrame | None:
        key = frame.session, frame.body[:4]
        if frame.kind != DATA:
            return frame
        return None if key in seen or seen.add(key) else frame  # type: ignore[func-returns-value]

    return change


def greedy(frame: LinkFrame) -> LinkFrame:
    return (
        LinkFrame(frame.kind, frame.session, struct.pack("<BBBH", 1, 0, 200, 9000)) if frame.kind == OPENED else frame
    )


def ahead(frame: LinkFrame) -> LinkFrame:
    if frame.kind != ACK:
        return frame
    number, bits = struct.unpack("<II", frame.body)
    return LinkFrame(ACK, frame.session, struct.pack("<II", number + 1, bits))


def failed(url: str, deadline_s: float) -> set[str]:
    stream = open_stream(parse(url))
    try:
        results = list(line_conformance.check(line_conformance.Line(stream, deadline_s)))
    finally:
        stream.close()
    assert {r.section for r in results} == {"14"}
    return {r.title.removeprefix("Line: ") for r in results if r.outcome == "fail"}


NOT_OPEN = {
    "OPEN of another version opens nothing",
    "OPEN out of bounds opens nothing",
    "DATA of a session that is not open is answered with RESET",
    "RESET ends the session",
}
ACKNOWLEDGED = {
    "OPEN of the open session changes nothing",
    "every chunk is acknowledged, repeated ones too",
    "chunks and acknowledgements beyond the window are ignored",
}


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda: without(RESET), NOT_OPEN | {"a broken message is answered with RESET"}),
        (lambda: without(ACK), ACKNOWLEDGED),
        (lambda: ahead, ACKNOWLEDGED),
        (only_once, {"the client's window and chunk are kept, unacknowledged chunks sent again"}),
        (lambda: greedy, {"OPEN is answered with OPENED"}),
    ],
    ids=["no RESET", "no ACK", "wrong ACK", "nothing again", "odd OPENED"],
)
def test_each_fault_of_the_line_makes_the_right_requirements_fail(
    change: Callable[[], Change], failing: set[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(serial_link, "SerialEnd", changed(change))
    assert failed(request.getfixturevalue("url"), 1.5) == failing


def test_nobody_on_the_line() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = failed(f"serial:socket://127.0.0.1:{listener.getsockname()[1]}", 0.1)
    assert found == {title.removeprefix("Line: ") for title in line_conformance.REQUIREMENTS}
