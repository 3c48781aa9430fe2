"""How much a demo does: the whole, whose figures are results, and the trial that shows the path in minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoSizes:
    """Sizes of a demo's steps; None: the command's own default.

    Attributes:
        captures: of the collection and of each search on the device.
        raws_per_trial: of the searches.
        lab_scenes, raws_per_scene, raws_per_photograph: of ``sim scenes``, for human viewing.
        train_images, test_images: of ``sim composed``, for detectors.
        base_steps, proxy_steps, proxy_width: of ``fit-proxy``.
        steps, batch: of ``train``.
        test_raws, oracle_captures: of ``validate``.
        image_only: whether a second predictor is trained that sees no metadata.
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
    steps: int | None = None
    batch: int | None = None
    test_raws: int | None = None
    oracle_captures: int | None = None
    image_only: bool = False


VIEWING = DemoSizes(
    4000,
    lab_scenes=400,
    raws_per_scene=6,
    raws_per_photograph=30,
    test_raws=60,
    oracle_captures=240,
    image_only=True,
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
    steps=40,
    batch=8,
    test_raws=12,
    oracle_captures=24,
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
