"""The losses of human viewing by name; light to import, so that the command line can list them."""

from __future__ import annotations

from enum import StrEnum


class ViewingLoss(StrEnum):
    """What a predictor for human viewing is trained by: the paper's L2, or L2 and structure at several scales."""

    l2 = "l2"
    detail = "detail"
