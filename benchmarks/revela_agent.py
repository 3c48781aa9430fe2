"""revela (PyPI), an ISP in NumPy at its hardware's arithmetic, as a device: pip install --no-deps revela np2hw."""

import numpy as np
import revela
from revela.blocks import resolve
from revela.host.curves import knots_from_curve

from drivers.agent import Agent, choice, continuous, integer

gain = {"step": 1 / 256, "block": "whitebalance", "scale": "log"}
parameters = [
    integer("black_offset", -64, 64, default=0, block="blacklevel", unit="DN of 12 bits"),
    continuous("red_gain", 0.5, 4, default=2, role="red_gain", **gain),
    continuous("blue_gain", 0.5, 4, default=1.5, role="blue_gain", **gain),
    continuous("exposure", 0.25, 4, default=1, **gain),
    choice("demosaic", ["bilinear", "bicubic", "ha_green+ha_rb"], default="ha_green+ha_rb", block="demosaic"),
    continuous("saturation", 0, 2, step=1 / 64, default=1, block="ccm"),
    continuous("gamma", 1, 4, step=1 / 256, default=2.2, block="rgb_gamma"),
    continuous("contrast", -0.9, 0.9, step=1 / 64, default=0, block="rgb_gamma"),
]
agent = Agent(model="revela", firmware=revela.__version__, parameters=parameters)


@agent.process
def process(mosaic, metadata, v):
    scale, red = 4095 / metadata["white_level"], metadata["cfa"].index("R")  # revela's phase: where red is
    black = np.array([[metadata["black_level"][red ^ (2 * i + j)] * scale for j in (0, 1)] for i in (0, 1)])
    gains = np.array([[v["red_gain"], 1], [1, v["blue_gain"]]]) * v["exposure"]
    m = np.array(metadata["colour_matrix"] or np.eye(3))
    m = v["saturation"] * m + (1 - v["saturation"]) * np.ones((3, 1)) @ [[0.2126, 0.7152, 0.0722]] @ m
    knots = knots_from_curve(lambda x: (y := x ** (1 / v["gamma"])) + v["contrast"] * y * (1 - y) * (2 * y - 1))
    codes = {"offset": v["black_offset"] - black, "gain": 256 * gains, "m": (256 * m).clip(-1024, 1023), "knots": knots}
    frame = np.rint(mosaic * scale).astype(np.int64)
    for block in map(resolve, ["blacklevel", "whitebalance", *v["demosaic"].split("+"), "ccm", "rgb_gamma"]):
        tables = [p.values(np.rint(codes[p.name]).astype(int)) for p in block.params]
        frame = block.run(frame, *tables, bit_depth=12, **dict.fromkeys(block.params.consumes, red))
    return frame.astype(np.uint8)


agent.serve()
