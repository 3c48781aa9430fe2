"""Coverage-guided fuzzing of what parses bytes from a wire, with atheris (``pip install atheris``; Linux and macOS).

    .venv/bin/python benchmarks/fuzz.py {wire,line,chunks} [libFuzzer's options, such as -max_total_time=60]

``wire``: message parts into the decoder, and the RAW or the image of what decodes. ``line``: bytes of a serial line, in
pieces, into one end of the link. ``chunks``: the same behind right CRCs, so that windows and messages are reached. A
finding is any exception but the typed ones of bad messages, or more memory than the bound; libFuzzer then stops with
the input. The lines before the last count what was tried.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["drivers"]):
    from drivers.errors import ProtocolError
    from drivers.parameters import ParameterSpace
    from drivers.protocol import wire
    from drivers.protocol.serial_end import SerialEnd
    from drivers.protocol.serial_framing import ACK, DATA, MAX_CHUNK, OPEN, OPENED, RESET, encode_frame

MEMORY_MB = 1024
MAX_PAYLOAD = 1 << 20
SESSION = 0x1BADCAFE
tried = {"inputs": 0, "bytes": 0}


def seeds() -> list[list[bytes]]:
    """Parts of one valid message of each type: without them the fuzzer would look for msgpack first."""
    space = ParameterSpace.from_dict(
        {
            "name": "tiny",
            "parameters": [
                {
                    "name": "gain",
                    "block": "gain",
                    "kind": "integer",
                    "low": 0,
                    "high": 9,
                    "default": 1,
                    "register": {"address": 16, "width": 16, "signed": False},
                }
            ],
        }
    )
    digest = "00" * 32
    raw = (
        b'{"as_shot_wb": [2.0, 1.0, 1.5], "black_level": [64, 64, 64, 64], "cfa": "RGGB", "colour_matrix": null, '
        b'"exposure_s": 0.01, "height": 2, "iso": 100.0, "white_level": 1023, "width": 2}'
    )
    messages: list[wire.Message] = [
        wire.Hello(1),
        wire.Info(2, "m", "1", "s", "b", 4, 1 << 20, space),
        wire.Read(3, "active", (16,)),
        wire.Write(4, ((16, 2),)),
        wire.RegisterValues(5, "b", "active", ((16, 2),), digest),
        wire.Process(6, digest, ((16, 2),), raw, bytes(8)),
        wire.Frame(7, "b", 1, digest, digest, ((16, 2),), "image/jpeg", digest, 9, b"\xff\xd8\xff\xd9"),
        wire.Error(8, "busy", "later"),
    ]
    return [[bytes(part) for part in wire.encode(message)] for message in messages]


VALID = seeds()


def fuzz_wire(data: bytes) -> None:
    """Decode parts: a valid message with some bytes changed, or wholly the fuzzer's own."""
    source = atheris.FuzzedDataProvider(data)
    parts: list[wire.Buffer]
    if source.ConsumeBool():
        chosen = [bytearray(part) for part in VALID[source.ConsumeIntInRange(0, len(VALID) - 1)]]
        for _ in range(source.ConsumeIntInRange(0, 8)):
            part = chosen[source.ConsumeIntInRange(0, len(chosen) - 1)]
            at = source.ConsumeIntInRange(0, len(part))
            part[at : at + source.ConsumeIntInRange(0, 3)] = source.ConsumeBytes(source.ConsumeIntInRange(0, 9))
        parts = [bytes(part) for part in chosen]
    else:
        parts = [source.ConsumeBytes(source.ConsumeIntInRange(0, 2048)) for _ in range(source.ConsumeIntInRange(0, 3))]
        parts.append(source.ConsumeBytes(source.remaining_bytes()))
    try:
        message = wire.decode(parts, MAX_PAYLOAD)
        if isinstance(message, wire.Process):
            wire.raw_frame(message)
    except ProtocolError:
        return
    wire.decode(wire.encode(message), MAX_PAYLOAD)


def fuzz_line(data: bytes) -> None:
    """Bytes of a line, in pieces."""
    source = atheris.FuzzedDataProvider(data)
    end = SerialEnd(opens=source.ConsumeBool(), max_payload=MAX_PAYLOAD)
    while source.remaining_bytes():
        drive(end, source.ConsumeBytes(source.ConsumeIntInRange(1, 4096)), 0.01)


def fuzz_chunks(data: bytes) -> None:
    """Frames with a right CRC in an open session."""
    source = atheris.FuzzedDataProvider(data)
    end = SerialEnd(opens=False, max_payload=MAX_PAYLOAD)
    drive(end, encode_frame(OPEN, SESSION, bytes((1, 1, 16, 0, 4))), 0.0)
    for parts in VALID[: source.ConsumeIntInRange(0, len(VALID))]:
        end.send(list(parts))
    now, number = 0.0, 0
    while source.remaining_bytes():
        kind = source.PickValueInList([DATA, DATA, DATA, ACK, ACK, OPEN, OPENED, RESET, 9])
        body = source.ConsumeBytes(source.ConsumeIntInRange(0, MAX_CHUNK))
        if kind == DATA and source.ConsumeBool():
            body, number = number.to_bytes(4, "little") + body, number + 1
        session = SESSION if source.ConsumeProbability() < 0.95 else source.ConsumeIntInRange(0, 2**32 - 1)
        now += source.ConsumeProbability()
        drive(end, encode_frame(kind, session, body), now)


def drive(end: SerialEnd, data: bytes, now: float) -> None:
    """What a driver does with an end of the link."""
    end.feed(data, now)
    while (parts := end.receive()) is not None:
        try:
            wire.decode(parts, MAX_PAYLOAD)
        except ProtocolError:
            continue
    end.outgoing(now)
    end.wait_s(now)


TARGETS = {"wire": fuzz_wire, "line": fuzz_line, "chunks": fuzz_chunks}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: fuzz.py {{{','.join(TARGETS)}}} [libFuzzer's options]")
    target = TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        tried["inputs"] += 1
        tried["bytes"] += len(data)
        if tried["inputs"] % 20000 == 0:
            print(f"tried {tried['inputs']} inputs, {tried['bytes']} bytes", flush=True)
        target(data)

    atheris.Setup([*sys.argv, f"-rss_limit_mb={MEMORY_MB}", "-max_len=65536", "-len_control=0"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
