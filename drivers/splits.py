"""The splits of scenes: what a scene's RAWs may be used for."""

from __future__ import annotations

from enum import StrEnum


class Split(StrEnum):
    """What a scene is for; all RAWs of a scene are in one split."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
