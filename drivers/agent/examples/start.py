"""An ISP of one's own as a device of the tuning workbench.

python my_isp.py                              serve at zmq://127.0.0.1:5599 until Ctrl-C
workbench device check zmq://127.0.0.1:5599   in another shell: does it keep the protocol?
"""

import sys

import numpy as np

from drivers.agent import Agent, choice, continuous, switch

# What can be tuned. Each has a name, a range and the block of the ISP that it belongs to. `step` is what one code of
# its register is: values are multiples of it. The bench searches a "log" range by factors, as gains are felt. A gain
# with a `role` is the one that the camera's own white balance sets. There is also `integer("radius", 1, 7)`.
PARAMETERS = [
    continuous("red_gain", 0.5, 4, step=1 / 256, default=2, block="white_balance", scale="log", role="red_gain"),
    continuous("blue_gain", 0.5, 4, step=1 / 256, default=1.5, block="white_balance", scale="log", role="blue_gain"),
    continuous("exposure", 0.25, 4, step=1 / 256, default=1, block="tone", scale="log"),
    continuous("gamma", 1, 4, step=1 / 256, default=2.2, block="tone"),
    choice("interpolation", ["nearest", "smooth"], default="smooth", block="demosaic"),
    switch("monochrome", block="colour"),
]

# Captures are kept under model and firmware. Raise `firmware` whenever the same RAW and values give another picture.
agent = Agent(model="my-isp", firmware="1", parameters=PARAMETERS)


@agent.process
def process(mosaic, metadata, values):
    """The picture of one RAW: put your ISP here.

    mosaic: uint16 [H, W], the Bayer mosaic as the sensor gave it; read-only.
    metadata: width, height, cfa (such as "RGGB"), black_level (four, in reading order), white_level; and, or None:
        iso, exposure_s, as_shot_wb (gains of red, green, blue), colour_matrix (3×3).
    values: of every parameter by name: float, int, str or bool.
    Returns uint8 [H, W, 3], red first, sRGB; or the bytes of a JPEG or PNG. The picture must depend on nothing but the
    RAW and the values. What this function raises is told to the bench as a failed frame; the agent goes on.
    """
    height, width = mosaic.shape
    black = np.tile(np.reshape(metadata["black_level"], (2, 2)), (height // 2, width // 2))
    light = np.clip((mosaic - black) / (metadata["white_level"] - black), 0, 1)

    # One value of each colour for each 2×2 pixels; green is the mean of its two.
    places = {colour: [i for i in range(4) if metadata["cfa"][i] == colour] for colour in "RGB"}
    planes = [np.mean([light[i // 2 :: 2, i % 2 :: 2] for i in places[colour]], axis=0) for colour in "RGB"]
    rgb = np.stack(planes, axis=2)
    rgb = rgb.repeat(2, axis=0).repeat(2, axis=1)
    if values["interpolation"] == "smooth":
        rgb = (rgb + np.roll(rgb, 1, axis=0)) / 2
        rgb = (rgb + np.roll(rgb, 1, axis=1)) / 2

    rgb = rgb * [values["red_gain"], 1, values["blue_gain"]] * values["exposure"]
    if values["monochrome"]:
        rgb = np.repeat(rgb @ [[0.2126], [0.7152], [0.0722]], 3, axis=2)
    return np.rint(255 * np.clip(rgb, 0, 1) ** (1 / values["gamma"])).astype(np.uint8)


# For hardware: `@agent.read_back` above a function without arguments that returns the values in force, read from the
# registers; Agent(settle=3) where the output follows three frames late; Agent(echo=False) where nothing tells what is
# in force. For a camera that photographs: `@agent.capture` in place of `@agent.process`.

if __name__ == "__main__":
    agent.serve(sys.argv[1] if sys.argv[1:] else "zmq://127.0.0.1:5599")
