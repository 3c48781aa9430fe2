"""How much a demo does: the whole, whose figures are results, and the trial that shows the path in minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SettingsSizes:
    """Sizes of the demo's second table; None: the command's own default.

    Attributes:
        captures, raws_per_trial: of each search on the device.
        follow_captures, steps: of each training on top of industry's table.
        raws_per_scene, raws_per_photograph: of those of the demo's RAWs that get another ISP's references.
    """

    captures: int
    follow_captures: int
    steps: int
    raws_per_scene: int
    raws_per_photograph: int
    raws_per_trial: int | None = None


@dataclass(frozen=True)
class DemoSizes:
    """Sizes of a demo's steps; None: the command's own default.

    Attributes:
        captures: of the collection and of each search on the device.
        raws_per_trial: of the searches.
        lab_scenes, raws_per_scene, raws_per_photograph: of ``sim scenes``, for human viewing.
        train_images, test_images: of ``sim composed``, for detectors.
        base_steps, proxy_steps, proxy_width, loss_raws: of ``fit-proxy``.
        steps, batch: of ``train``.
        test_raws, oracle_captures: of ``validate``.
        image_only: whether a second predictor is trained that sees no metadata.
        settings: of the second table; None: there is none.
    """

    captures: int
    raws_per_trial: int | None = None
    lab_scenes: int = 0
    raws_per_scene: int = 0
    raws_per_photograph: int = 0
    train_images: int = 0
    test_images: int = 0
    base_steps: int | None = None
    proxy_steps: int | None = None
    proxy_width: int | None = None
    loss_raws: int | None = None
    steps: int | None = None
    batch: int | None = None
    test_raws: int | None = None
    oracle_captures: int | None = None
    image_only: bool = False
    settings: SettingsSizes | None = None

    def of_scenes(self, photographs: Path | None) -> dict[str, Any]:
        """Options of ``sim scenes``: photographs and lab scenes; a user's photographs alone where there are some."""
        if photographs is not None:
            return {"lab_scenes": 0, "raws_per_photograph": 4, "photographs": photographs}
        return {
            "lab_scenes": self.lab_scenes,
            "raws_per_scene": self.raws_per_scene,
            "raws_per_photograph": self.raws_per_photograph,
        }


VIEWING = DemoSizes(
    4000,
    lab_scenes=400,
    raws_per_scene=6,
    raws_per_photograph=30,
    test_raws=60,
    oracle_captures=240,
    image_only=True,
    settings=SettingsSizes(1500, follow_captures=500, steps=150, raws_per_scene=2, raws_per_photograph=8),
)
DETECTOR = DemoSizes(2000, raws_per_trial=40, train_images=300, test_images=100, steps=200, batch=16)
QUICK_VIEWING = DemoSizes(
    240,
    lab_scenes=60,
    raws_per_scene=2,
    raws_per_photograph=2,
    base_steps=150,
    proxy_steps=20,
    proxy_width=8,
    loss_raws=1,
    steps=40,
    batch=8,
    test_raws=12,
    oracle_captures=24,
    settings=SettingsSizes(
        120, raws_per_trial=8, follow_captures=80, steps=10, raws_per_scene=1, raws_per_photograph=1
    ),
)
QUICK_DETECTOR = DemoSizes(
    120,
    raws_per_trial=10,
    train_images=24,
    test_images=8,
    base_steps=120,
    proxy_steps=15,
    proxy_width=8,
    steps=12,
    batch=4,
)
TRIAL = "a trial run of the path, not a result: far too few RAWs, captures and steps"


def trials(raws: int | None, captures: int) -> int | None:
    """RAWs per trial of a search: the industry's table takes eight trials and the ranking of its sets at least."""
    return raws and max(min(raws, captures // 12), 1)
