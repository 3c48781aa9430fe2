"""The picture of a FRAME, as the bench keeps it."""

from __future__ import annotations

from drivers.errors import FrameError
from drivers.frames import RgbFrame
from drivers.plain_pictures import PLAIN, PictureOutput
from drivers.protocol.messages import Frame


def picture(message: Frame, output: PictureOutput, width: int, height: int) -> RgbFrame:
    """The picture that an answer holds: a file as it came, not looked into; what is plain pixels, or lies otherwise
    than the RAW, as a PNG of 8-bit sRGB on the RAW's pixels.

    Args:
        message: the answer, its output hash proven.
        output: what INFO says of the device's pictures.
        width: pixels of the RAW; ``height``: its rows.

    Raises:
        FrameError: it is not what INFO says; one line that begins with "the output".
    """
    size = output.picture_size(width, height)
    if message.media_type == PLAIN:
        if output.is_file:
            raise FrameError(f"the output is {PLAIN}, but INFO tells no format of pixels")
        pixels = output.pixels(message.payload, *size)
    elif not output.is_file:
        raise FrameError(f"the output is {message.media_type}, INFO says {output.format} ({PLAIN})")
    else:
        file = RgbFrame(bytes(message.payload), message.media_type)
        if output.lies_as_raw:
            return file
        file.check(*size)
        pixels = file.pixels
    return RgbFrame.from_pixels(output.onto_raw(pixels, width, height))
