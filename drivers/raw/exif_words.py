"""ISO speed, exposure time and orientation as a file's Exif tags state them."""

from __future__ import annotations

from drivers.orientation import ORIENTATIONS, UPRIGHT
from drivers.raw.tiff_tags import FileTags, one

ISO_SPEED, SENSITIVITY_TYPE = 34855, 34864
_ISO_AT_MOST = 65535  # the largest number that the ISO tag has room for: "this or more"
_OTHER_ISO = {34866: "RecommendedExposureIndex", 34867: "ISOSpeed", 34865: "StandardOutputSensitivity"}
_NAMED_BY_TYPE = {1: (34865,), 2: (34866,), 3: (34867,), 4: (34866, 34865), 5: (34867, 34865), 6: (34866, 34867)}
EXPOSURE_TIME, SHUTTER_SPEED = 33434, 37377
_ORIENTATION = 274


def iso_of(tags: FileTags) -> tuple[float | None, str]:
    """The file's ISO speed and the tag that says it; ``(None, "")`` where no tag does.

    The tag may stand in the Exif directory or beside the picture. 65535 there means that the value has no room: then
    another tag holds it, that of ``SensitivityType`` first; with none, the answer is ``(None, "ISO 65535")``, as it is
    ``(None, "ISO -100")`` of a negative one.
    """
    places = (tags.exif, tags.first, *tags.mosaics)
    stated = next((v for p in places for v in [*filter(None, p.get(ISO_SPEED, ()))] if v > 0), None)
    if stated is not None and stated != _ISO_AT_MOST:
        return stated, "ISOSpeedRatings"
    kind = next((one(p[SENSITIVITY_TYPE]) for p in places if SENSITIVITY_TYPE in p), None)
    for code in dict.fromkeys((*_NAMED_BY_TYPE.get(int(kind or 0), ()), *_OTHER_ISO)):
        for place in places:
            value = one(place.get(code))
            if value is not None and value > 0:
                return value, _OTHER_ISO[code]
    if stated is None:  # LibRaw reads a negative one as if it had no sign
        stated = next((v for p in places for v in p.get(ISO_SPEED, ()) if v < 0), None)
    return None, "" if stated is None else f"ISO {stated:g}"


def exposure_of(tags: FileTags) -> tuple[float | None, str]:
    """The file's exposure time in seconds and the tag that says it; ``(None, "")`` where no tag does.

    A time of 0, or none that is a number, says that it is not known: ``(None, "ExposureTime 0")``.
    """
    zero = False
    for place in (tags.exif, tags.first, *tags.mosaics):
        value = one(place.get(EXPOSURE_TIME))
        if value is not None and value > 0:
            return value, "ExposureTime"
        zero = zero or EXPOSURE_TIME in place
        apex = one(place.get(SHUTTER_SPEED))
        if apex is not None and abs(apex) < 32 and EXPOSURE_TIME not in place:
            return 2.0**-apex, "ShutterSpeedValue"
    return None, "ExposureTime 0" if zero else ""


def orientation_of(tags: FileTags) -> int | None:
    """The file's orientation flag: the first directory's, which holds for every picture of the file, or a mosaic's.

    Upright where there are only flags that mean nothing, such as 0, which some programs write for "unknown".
    """
    stated = [flag for place in (tags.first, *tags.mosaics) if (flag := one(place.get(_ORIENTATION))) is not None]
    return next((int(flag) for flag in stated if flag in ORIENTATIONS), UPRIGHT if stated else None)
