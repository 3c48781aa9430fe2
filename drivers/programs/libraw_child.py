"""The process that runs LibRaw for :mod:`drivers.programs.libraw_device`: a native crash or hang stays in here.

Messages on its standard input and output: four bytes (little-endian length of the header), a JSON header, then as many
payload bytes as the header's ``size`` says. A request is ``{"id", "codes", "raw", "size"}`` with a DNG as payload
(size 0: the DNG sent last, whose name is ``raw``); the answer is ``{"id", "codes", "frame", "seconds", "size"}`` with a
PNG as payload, or ``{"id", "error", "size": 0}``. The first message tells who LibRaw is and what its parameters are.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
import time
import uuid
from typing import Any, BinaryIO

from drivers.parameters import Parameter, ParameterSet, ParameterSpace

DEMOSAIC = ("linear", "vng", "ppg", "ahd", "dcb", "dht", "aahd")
HIGHLIGHTS = {"clip": 0, "ignore": 1, "blend": 2, "rebuild_3": 3, "rebuild_5": 5, "rebuild_9": 9}
FBDD = {"off": 0, "light": 1, "full": 2}
MIN_SIDE = 22  # LibRaw takes nothing smaller for a RAW


def write_message(stream: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    """Send one message."""
    head = json.dumps({**header, "size": len(payload)}).encode()
    stream.write(struct.pack("<I", len(head)) + head)
    stream.write(payload)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Receive one message.

    Raises:
        EOFError: the other side is gone.
    """
    (length,) = struct.unpack("<I", _read(stream, 4))
    header = json.loads(_read(stream, length))
    return header, _read(stream, header["size"])


def libraw_space(demosaic: tuple[str, ...] = DEMOSAIC) -> ParameterSpace:
    """LibRaw's tunable parameters, with LibRaw's own defaults but for the gains, which it takes from nowhere.

    Args:
        demosaic: the algorithms that this LibRaw was built with.
    """

    def real(name: str, block: str, low: float, high: float, default: float, text: str, **more: Any) -> Parameter:
        more.setdefault("step", 1 / 256)
        return Parameter(
            name=name, block=block, kind="continuous", low=low, high=high, default=default, description=text, **more
        )

    def other(name: str, block: str, kind: Any, default: Any, text: str, **more: Any) -> Parameter:
        return Parameter(name=name, block=block, kind=kind, default=default, description=text, **more)

    gain: dict[str, Any] = {"scale": "log", "unit": "×"}
    return ParameterSpace(
        name="libraw",
        parameters=(
            real("red_gain", "white_balance", 0.5, 4, 2, "gain of red relative to green", role="red_gain", **gain),
            real("blue_gain", "white_balance", 0.5, 4, 1.5, "gain of blue relative to green", role="blue_gain", **gain),
            real("black_offset", "black_level", -0.02, 0.05, 0, "black level above the file's, share of full scale",
                 step=1 / 4096),
            real("saturation_threshold", "black_level", 0.05, 0.99, 0.75,
                 "lower the white level to the brightest pixel where that is above this share of it"),
            real("exposure_shift", "exposure", 0.25, 8, 1, "linear exposure shift before demosaicing", **gain),
            real("exposure_preserve_highlights", "exposure", 0, 1, 0, "how much a positive shift spares highlights"),
            real("bright", "exposure", 0.25, 8, 1, "brightness after demosaicing", **gain),
            other("auto_bright", "exposure", "bool", True, "stretch brightness by the histogram"),
            real("auto_bright_clip", "exposure", 0.0005, 0.1, 0.01, "share of pixels that auto_bright may clip",
                 scale="log", step=1 / 8192),
            other("highlight_mode", "exposure", "choice", "clip", "what happens to clipped highlights",
                  choices=tuple(HIGHLIGHTS)),
            other("fbdd", "noise_reduction", "choice", "off", "impulse noise reduction before demosaicing",
                  choices=tuple(FBDD)),
            other("median_passes", "noise_reduction", "integer", 0, "median filter passes on colour differences",
                  low=0, high=5),
            real("red_scale", "lens", 0.99, 1.01, 1, "magnification of red (chromatic aberration)", step=1 / 65536),
            real("blue_scale", "lens", 0.99, 1.01, 1, "magnification of blue (chromatic aberration)", step=1 / 65536),
            other("demosaic", "demosaic", "choice", "ahd", "interpolation algorithm", choices=demosaic),
            other("four_colour", "demosaic", "bool", False, "interpolate the two greens as two colours"),
            other("dcb_iterations", "demosaic", "integer", 0, "correction passes of dcb", low=0, high=5),
            other("dcb_enhance", "demosaic", "bool", False, "refinement of dcb"),
            real("gamma_power", "tone", 1, 4, 2.222, "gamma exponent (1/power)", scale="log"),
            real("gamma_slope", "tone", 0, 12, 4.5, "slope of the gamma curve's toe"),
        ),
    )  # fmt: skip


def postprocess_arguments(parameters: ParameterSet, black: list[int], white: int) -> dict[str, Any]:
    """LibRaw's arguments for a parameter set.

    Args:
        parameters: a set of :func:`libraw_space`.
        black: the file's black levels in LibRaw's colour order (R, G, B, second G).
        white: the file's white level.
    """
    import rawpy

    v: dict[str, Any] = parameters.values
    offset = round(v["black_offset"] * (white - min(black)))
    base = max(min(black) + offset, 0)
    arguments = {
        "demosaic_algorithm": getattr(rawpy.DemosaicAlgorithm, v["demosaic"].upper()),
        "user_wb": [v["red_gain"], 1.0, v["blue_gain"], 1.0],
        "adjust_maximum_thr": v["saturation_threshold"],
        "exp_shift": v["exposure_shift"] if v["exposure_shift"] != 1 else None,
        "exp_preserve_highlights": v["exposure_preserve_highlights"],
        "bright": v["bright"],
        "no_auto_bright": not v["auto_bright"],
        "auto_bright_thr": v["auto_bright_clip"],
        "highlight_mode": HIGHLIGHTS[v["highlight_mode"]],
        "fbdd_noise_reduction": rawpy.FBDDNoiseReductionMode(FBDD[v["fbdd"]]),
        "median_filter_passes": v["median_passes"],
        "chromatic_aberration": (v["red_scale"], v["blue_scale"]),
        "four_color_rgb": v["four_colour"],
        "dcb_iterations": v["dcb_iterations"],
        "dcb_enhance": v["dcb_enhance"],
        "gamma": (v["gamma_power"], v["gamma_slope"]),
        "output_color": rawpy.ColorSpace.sRGB,
        "output_bps": 8,
        "user_flip": 0,
    }
    if offset:
        arguments["user_black"] = base
        arguments["user_cblack"] = [b - min(black) for b in black]
    return arguments


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    import rawpy

    from drivers.frames import RgbFrame

    supported = tuple(name for name in DEMOSAIC if getattr(rawpy.DemosaicAlgorithm, name.upper()).isSupported)
    space = libraw_space(supported)
    version = ".".join(map(str, rawpy.libraw_version))
    write_message(
        answers,
        {
            "firmware": f"LibRaw {version} rawpy {rawpy.__version__}",
            "boot_id": uuid.uuid4().hex,
            "space": space.to_dict(),
        },
    )
    frame, name, dng = 0, "", b""
    while True:
        try:
            request, payload = read_message(requests)
        except EOFError:
            return
        if payload:
            name, dng = request["raw"], payload
        start = time.perf_counter()
        try:
            if request["raw"] != name:
                raise ValueError(f"RAW {request['raw'][:12]} was never sent")
            parameters = space.from_codes(request["codes"])
            with rawpy.imread(io.BytesIO(dng)) as raw:
                arguments = postprocess_arguments(parameters, raw.black_level_per_channel, raw.white_level)
                pixels = raw.postprocess(**arguments)
            png = RgbFrame.from_pixels(pixels).encoded
        except Exception as error:  # whatever LibRaw raises is an answer, not the end of the process
            text = error.args[0] if error.args else type(error).__name__
            text = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
            write_message(answers, {"id": request["id"], "error": text})
            continue
        frame += 1
        codes = parameters.by_name
        seconds = time.perf_counter() - start
        write_message(answers, {"id": request["id"], "codes": codes, "frame": frame, "seconds": seconds}, png)


def main() -> None:
    """Serve until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the bench, which may still want the frame in work
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native code that prints must not reach the messages
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(answers.fileno(), os.O_BINARY)
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
