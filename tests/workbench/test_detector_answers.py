"""What a detector answers is held to the interface before it becomes a score: its code may be anybody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
import torch

from workbench.tasks.coco import CocoSet
from workbench.tasks.detectors import DetectorError, Prediction, Target
from workbench.tasks.detectors.user_module import checked
from workbench.tasks.vision import VisionTarget, VisionTask

GREY = np.full((24, 32, 3), 128, np.uint8)
OBJECT = Target(torch.tensor([[4.0, 4.0, 12.0, 16.0]]), torch.tensor([2]))
MASKS = torch.zeros(3, 24, 32, dtype=torch.bool)
RIGHT = Prediction(
    torch.tensor([[4.0, 4.0, 12.0, 16.0], [0.0, 0.0, 32.0, 24.0], [1.0, 2.0, 1.0, 2.0]]),
    torch.tensor([0.9, 0.5, 0.1]),
    torch.tensor([2, 7, 7]),
    MASKS,
)


class Told:
    """A user's detector that answers what it is told to."""

    name: Any = "told"
    category_ids: Any = (2, 7)
    masks: Any = True

    def __init__(self, found: Any = None, loss: Any = None) -> None:
        self._found, self._loss = [RIGHT] if found is None else found, loss

    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> Any:
        return self._loss() if callable(self._loss) else self._loss

    def predict(self, images: torch.Tensor) -> Any:
        return self._found() if callable(self._found) else self._found

    def to(self, device: torch.device | str) -> Self:
        return self


def task(detector: Any) -> VisionTask:
    return VisionTask("segmentation", "my.package:make", detector, CocoSet("a.json", (), {}, [], ()))  # type: ignore[arg-type]


def fails() -> Any:
    raise ZeroDivisionError("no\nlight")


def test_what_keeps_to_the_interface_counts() -> None:
    found = task(Told()).results(5, GREY)
    assert [(entry["image_id"], entry["category_id"]) for entry in found] == [(5, 2), (5, 7), (5, 7)]
    assert task(Told([replace(RIGHT, category_ids=RIGHT.category_ids.int())])).predict(GREY).masks is MASKS
    assert task(Told(loss=torch.tensor([1.0]))).log_loss_of(GREY, OBJECT) == pytest.approx(np.log(1.01))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "0 of them for 1 images"),
        ({"boxes": 1}, "a dict for 1 images"),
        ([(RIGHT.boxes, RIGHT.scores)], "boxes of a tuple, not as a tensor"),
        ([replace(RIGHT, category_ids=["cat", "dog", "dog"])], "category_ids list, not as a tensor"),  # type: ignore[arg-type]
        ([replace(RIGHT, scores=RIGHT.scores[:2])], r"scores \[2\], category_ids \[3\]"),
        ([replace(RIGHT, scores=RIGHT.scores * torch.nan)], "not finite"),
        ([replace(RIGHT, boxes=RIGHT.boxes * torch.inf)], "not finite"),
        ([replace(RIGHT, scores=RIGHT.scores * 10)], "scores of 1 to 9"),
        ([replace(RIGHT, boxes=RIGHT.boxes[:, [0, 1, 2, 2]] - 3 * torch.eye(4)[3:])], "right or bottom lies before"),
        ([replace(RIGHT, boxes=RIGHT.boxes[:1].repeat(3, 1) / 32)], "as fractions of the image"),
        ([replace(RIGHT, category_ids=RIGHT.category_ids - 1)], "category 1, which is not one of its category_ids"),
        ([replace(RIGHT, masks=None)], "masks None; a detector with masks"),
        ([replace(RIGHT, masks=MASKS.float())], r"masks float32 \[3, 24, 32\]"),
        ([replace(RIGHT, masks=MASKS[:, ::2])], r"masks bool \[3, 12, 32\]"),
        (fails, r"its predict fails with ZeroDivisionError: no light \(test_detector_answers.py, line \d+\)"),
    ],
)
def test_another_answer_is_refused_and_not_scored(found: Any, words: str) -> None:
    with pytest.raises(DetectorError, match=f"^told: .*{words}"):
        task(Told(found)).results(1, GREY)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (2.0, "a float"),
        (torch.ones(2), r"a tensor \[2\]"),
        (torch.tensor(torch.nan), "nan on images"),
        (torch.tensor(-3.0), "-3 on images"),  # clamped, every image would have the same logarithm
        (fails, "its loss fails with ZeroDivisionError: no light"),
    ],
)
def test_a_loss_without_a_logarithm_is_refused_in_scoring_and_in_training(loss: Any, words: str) -> None:
    judge: VisionTask = task(Told(loss=loss))
    images = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    asks: list[Callable[[], Any]] = [
        lambda: judge.log_loss_of(GREY, OBJECT),
        lambda: judge.loss(images, VisionTarget([OBJECT])),
        lambda: judge.log_loss(images, VisionTarget([OBJECT])),
    ]
    for ask in asks:
        with pytest.raises(DetectorError, match=words):
            ask()


def test_of_a_picture_that_is_none_the_training_tells_and_not_the_detector() -> None:
    judge = task(Told(loss=torch.tensor(torch.nan)))
    assert judge.loss(torch.full((1, 3, 24, 32), torch.nan), VisionTarget([OBJECT])).isnan()


@pytest.mark.parametrize(
    ("part", "value"), [("name", None), ("category_ids", ("cat",)), ("category_ids", ()), ("masks", None)]
)
def test_a_detector_that_says_something_else_of_itself_is_refused(part: str, value: Any) -> None:
    detector = Told()
    setattr(detector, part, value)
    with pytest.raises(DetectorError, match=rf"detector my.package:make: its {part}"):
        checked(lambda: detector, "my.package:make")
