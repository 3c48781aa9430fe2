"""Object detection and instance segmentation as tasks (sections 5.1 to 5.3): a frozen detector judges the image.

Annotations are a COCO-format file whose images are the RAWs (see :mod:`workbench.tasks.partners`), of their sizes;
``workbench sim coco`` writes it so. Its categories are the detector's by name (see :mod:`workbench.tasks.categories`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from drivers.foreign_text import shown
from drivers.regular_files import read_regular
from drivers.splits import Split
from predictor.training import TrainingData
from predictor.view import View
from workbench.console.notes import Notes, listed, say
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.tasks.categories import matched
from workbench.tasks.coco import AnnotatedImage, CocoSet, Kind, coco_dict, mask_area, results_of, target_of
from workbench.tasks.coco_bootstrap import Matches
from workbench.tasks.coco_file import LARGEST_FILE, read_coco
from workbench.tasks.detectors import Detector, DetectorError, Prediction, Target, check_loss, open_detector
from workbench.tasks.detectors.answers import loss_of, predicted
from workbench.tasks.partners import Partners, find_partners
from workbench.tasks.task import Judgement, Metric, PictureRow, SetScorer, Starts, TaskKind, TaskOptions

TaskName = Literal["detection", "segmentation"]
VISION_METRICS = ("map50", "map", "detector-loss")
# Added to a loss before its logarithm is taken: a loss of zero has none.
LOSS_FLOOR = 1e-2


METRICS = (
    Metric("map50", "mAP50", per_raw=False),
    Metric("map75", "mAP75", per_raw=False),
    Metric("map", "mAP50:95", per_raw=False),
    Metric("loss", "log loss", higher_is_better=False),
)


@dataclass(frozen=True)
class VisionTask:
    """A task with its detector and the annotations of the RAWs.

    Attributes:
        name: ``detection`` or ``segmentation``.
        specification: what the detector was opened by.
        detector: judges the images; frozen.
        data: the annotations, with the detector's category ids.
        viewing_weight: weight of the L2 loss against the reference (human viewing) beside the detector's loss.
        notes: what must not go unsaid of the annotations, the detector, and what found no partner; grows.
    """

    name: TaskName
    specification: str
    detector: Detector
    data: CocoSet
    viewing_weight: float = 0.0
    notes: list[str] = field(default_factory=list, compare=False)
    _images: dict[str, AnnotatedImage] = field(default_factory=dict, repr=False, compare=False)

    metrics = METRICS
    search_metrics = VISION_METRICS
    ceiling = "clean photographs (ceiling)"
    loss_name = "detector's loss"

    @property
    def detector_name(self) -> str:
        """What the detector was opened by."""
        return self.specification

    @property
    def key(self) -> str:
        """What runs of this task are known by: the task and the detector."""
        return f"{self.name}:{self.detector.name}"

    @property
    def kind(self) -> Kind:
        """What COCO's evaluation compares: boxes or masks."""
        return "bbox" if self.name == "detection" else "segm"

    def record(self) -> dict[str, Any]:
        """What :func:`recorded_task` opens the task from again."""
        settings = getattr(self.detector, "settings_sha256", None)  # of a Darknet: its .cfg and names
        return {
            "name": self.name,
            "detector": self.specification,
            "weights_sha256": weights_digest(self.detector),
            **({} if settings is None else {"settings_sha256": settings}),
            "folder": str(Path.cwd()),
            "annotations": str(Path(self.data.path).resolve()),
            "annotations_sha256": _sha256(self.data.path),
            "viewing_weight": self.viewing_weight,
        }

    def raws(self, dataset: Dataset, split: Split) -> list[RawRecord]:
        """The RAWs of a split that have annotations; what found no partner is noted, and said on stderr.

        Raises:
            RunError: the split is empty, none has, one is of another size than its annotations, an image may be several
                RAWs, or masks are to be judged and an object has none.
        """
        raws = dataset.raws(split)
        where = shown(self.data.path)
        if not raws:
            raise RunError(f"the data set has no {split} RAW; collect a folder with some (`workbench collect --raws`)")
        partners = find_partners(self.data, dataset)
        found = [raw for raw in raws if raw.hash in partners.images]
        if not found:
            raise RunError(
                f"{where}: none of its {len(self.data.images)} images is one of the data set's {len(raws)} {split} "
                f"RAWs, such as {shown(raws[0].name)}; give the annotations.json of the folder that was collected"
            )
        notes = Notes()
        for raw in each("read annotations", found):
            image = self._images[raw.hash] = self._to_be_found(partners.images[raw.hash], notes)
            if (image.width, image.height) != (raw.width, raw.height):
                raise RunError(
                    f"{where}: {shown(raw.name)} is {image.width}×{image.height} there, its RAW {raw.width}×"
                    f"{raw.height}; annotations must be in the RAW's own pixels (`workbench sim coco` writes them so)"
                )
        if self.kind == "segm":
            self._check_masks(found)
        self.note(notes.lines(self.data.path.name))
        self._note_partners(partners, raws, split)
        return found

    def held_out(self, dataset: Dataset) -> list[RawRecord]:
        """The RAWs of the validation split with annotations."""
        return self.raws(dataset, Split.VALIDATION) if dataset.raws(Split.VALIDATION) else []

    def facts(self, raws: Sequence[RawRecord]) -> dict[str, int]:
        """How many objects there are to find.

        Raises:
            RunError: none.
        """
        objects = sum(not a["iscrowd"] for a in self.truth(raws)["annotations"])
        if not objects:
            raise RunError(f"{self.data.path}: no {raws[0].split} RAW shows an object; there is nothing to score")
        return {"objects": objects}

    def judge(self, raw: RawRecord, pixels: np.ndarray) -> Judgement:
        """What the detector finds, and the logarithm of its loss."""
        found = self.results(0, pixels)
        return Judgement({"loss": self.log_loss_of(pixels, self.targets([raw])[raw.hash])}, found)

    def of_sets(
        self, raws: Sequence[RawRecord], judgements: Sequence[Judgement], counts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """COCO's mAP of each set: matched once, counted for each."""
        results = [{**entry, "image_id": i} for i, one in enumerate(judgements, 1) for entry in one.found]
        return Matches(self.truth(raws), results, self.kind).scores(counts)

    def scorer(self, metric: str, raws: Sequence[RawRecord]) -> SetScorer:
        """See :class:`workbench.tasks.vision_scorer.VisionScorer`."""
        from workbench.tasks.vision_scorer import VisionScorer

        return VisionScorer(self, metric)

    def training_data(
        self,
        training: Sequence[RawRecord],
        held_out: Sequence[RawRecord],
        *,
        vary: bool,
        seed: int,
        starts: Starts | None = None,
        view: View = View(),  # noqa: B008 (frozen)
    ) -> TrainingData:
        """Whole RAWs with their objects; the detector's loss is tried once."""
        from workbench.tasks.vision_data import VisionData

        data = VisionData(self, training, held_out, vary=vary, starts=starts, view=view)
        check_loss(self.detector, *data.judged())
        return data

    def picture(self, rows: Sequence[PictureRow], titles: Sequence[str]) -> str | None:
        """Figure 3: the objects, and what the detector finds in each output."""
        from workbench.tasks.vision_pictures import drawn

        return drawn(self, rows, titles)

    def _to_be_found(self, image: AnnotatedImage, notes: Notes) -> AnnotatedImage:
        """The image without the objects that nothing can find: COCO's evaluation would count them as missed."""
        kept = []
        for number, a in enumerate(image.annotations, 1):
            if not a.crowd:
                name = f"object {number} of image {image.id}"
                if min(a.box[2:]) <= 0:  # as was noted when the file was read
                    continue
                if a.segmentation is None:
                    if self.kind == "bbox" and self.detector.masks:
                        notes.add(f"objects without a mask are passed over by the loss of {self.detector.name}", name)
                elif self.kind == "segm" and not mask_area(a.segmentation, image.height, image.width):
                    notes.add("masks have no pixel and are not counted", name)
                    continue
            kept.append(a)
        return replace(image, annotations=tuple(kept))

    def _check_masks(self, raws: Sequence[RawRecord]) -> None:
        images = [self._images[raw.hash] for raw in raws]
        bare = [image.file for image in images for a in image.annotations if a.segmentation is None]
        if bare:
            raise RunError(
                f"{shown(self.data.path)}: {len(bare)} objects have no mask, which segmentation is judged by, in "
                f"{listed(list(dict.fromkeys(bare)))}; draw their masks, or leave these images out"
            )

    def _note_partners(self, partners: Partners, raws: Sequence[RawRecord], split: str) -> None:
        where = shown(self.data.path.name)
        lines = []
        if alone := [partners.labels[raw.hash] for raw in raws if raw.hash not in partners.images]:
            lines.append(f"{where}: {len(alone)} of {len(raws)} {split} RAWs have no image there: {listed(alone)}")
        if partners.alone:
            lines.append(f"{where}: {len(partners.alone)} images are no RAW of the data set: {listed(partners.alone)}")
        if partners.by_name:
            lines.append(
                f"{where}: {len(partners.by_name)} images are matched to RAWs by file name alone, for no RAW was read "
                f"from their paths: {listed(partners.by_name)}"
            )
        self.note(lines)

    def note(self, lines: Sequence[str]) -> None:
        """Keep notes and say those that are new."""
        new = [line for line in dict.fromkeys(lines) if line not in self.notes]
        self.notes.extend(new)
        say(new)

    def targets(self, raws: Sequence[RawRecord]) -> dict[str, Target]:
        """What the detector's loss is to find in each RAW of :meth:`raws`, by the RAW's hash."""
        return {raw.hash: target_of(self._images[raw.hash], masks=self.detector.masks) for raw in raws}

    def truth(self, raws: Sequence[RawRecord]) -> dict[str, Any]:
        """The objects of RAWs of :meth:`raws` in COCO format; the images' ids are their places, from 1."""
        numbered = [replace(self._images[raw.hash], id=i) for i, raw in enumerate(raws, 1)]
        return coco_dict(numbered, self.data.categories)

    def predict(self, pixels: np.ndarray) -> Prediction:
        """What the detector sees in an image ``uint8 [H, W, 3]``."""
        return predicted(self.detector, as_batch(pixels))[0]

    def results(self, number: int, pixels: np.ndarray) -> list[dict[str, Any]]:
        """:meth:`predict` as entries of COCO's result format, of image ``number``."""
        return results_of(number, self.predict(pixels))

    def loss_of(self, pixels: np.ndarray, target: Target) -> float:
        """The detector's loss on one image ``uint8 [H, W, 3]``; always the same for the same image."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # two-stage detectors sample the proposals that their loss looks at
            return float(loss_of(self.detector, as_batch(pixels), [target]))

    def log_loss_of(self, pixels: np.ndarray, target: Target) -> float:
        """The logarithm of :meth:`loss_of`."""
        return math.log(max(self.loss_of(pixels, target), 0) + LOSS_FLOOR)

    def loss(self, output: Tensor, target: VisionTarget) -> Tensor:
        """Equation 4's loss of images ``float32 [B, 3, H, W]`` in [0, 1]: the detector's, averaged over the images."""
        detector = self.detector.to(output.device)
        value = loss_of(detector, output, [moved(t, output.device) for t in target.objects])
        return value + self._viewing(output, target)

    def log_loss(self, output: Tensor, target: VisionTarget) -> Tensor:
        """Mean of the logarithm of each image's loss: the plain mean is ruled by the few images with many objects."""
        detector = self.detector.to(output.device)
        losses = [
            loss_of(detector, image[None], [moved(t, output.device)])
            for image, t in zip(output, target.objects, strict=True)
        ]
        return (torch.stack(losses) + LOSS_FLOOR).log().mean() + self._viewing(output, target)

    def _viewing(self, output: Tensor, target: VisionTarget) -> Tensor | float:
        if not self.viewing_weight or target.reference is None:
            return 0.0
        return self.viewing_weight * (output - target.reference.to(output.device)).square().mean()


@dataclass(frozen=True)
class VisionTarget:
    """What B images should show: their objects, and their references ``float32 [B, 3, H, W]`` where these count."""

    objects: list[Target]
    reference: Tensor | None = None


def open_task(
    name: TaskName, specification: str | None, annotations: Path | None, viewing_weight: float = 0.0
) -> VisionTask:
    """The task with its detector.

    Args:
        name: ``detection`` or ``segmentation``.
        specification: see :func:`workbench.tasks.detectors.open_detector`.
        annotations: the COCO-format file.
        viewing_weight: see :class:`VisionTask`.

    Raises:
        RunError: something is not given, or the detector draws no masks for segmentation.
        DetectorError, CocoError: the detector or the annotations cannot be used, or their categories do not agree.
    """
    if specification is None:
        raise RunError(f"task {name} needs a detector; give --detector, such as darknet:yolov3.cfg")
    if annotations is None:
        raise RunError(f"task {name} needs the objects to find; give --annotations, such as raws/annotations.json")
    data = read_coco(annotations)
    detector = open_detector(specification)
    if name == "segmentation" and not detector.masks:
        raise RunError(f"detector {specification}: draws no masks, which segmentation needs; take a Mask R-CNN")
    data, more = matched(data, detector)
    task = VisionTask(name, specification, detector, data, viewing_weight)
    task.note([*data.notes, *getattr(detector, "notes", ()), *more])
    return task


def recorded_task(record: Mapping[str, Any]) -> VisionTask:
    """The task of a record made by :meth:`VisionTask.record`.

    Raises:
        RunError: the annotations are gone or are others now, or the detector cannot be opened or has other weights.
    """
    path = Path(record["annotations"])
    if not path.is_file():
        raise RunError(f"{path}: the annotations that the record names are gone; put them back there")
    if (digest := _sha256(path)) != record["annotations_sha256"]:
        raise RunError(
            f"{path}: these are not the annotations of the record (SHA-256 {digest[:12]} instead of "
            f"{record['annotations_sha256'][:12]}); put the old file back"
        )
    try:
        task = open_task(record["name"], record["detector"], path, record["viewing_weight"])
    except DetectorError as error:
        raise RunError(f"{error}; the record's detector was opened from the folder {record['folder']}") from error
    if weights_digest(task.detector) != record["weights_sha256"]:
        raise RunError(f"detector {record['detector']}: its weights are not those of the record; put the old file back")
    if record.get("settings_sha256") not in (None, task.record().get("settings_sha256")):
        raise RunError(f"detector {record['detector']}: its .cfg or names are not those of the record; put them back")
    return task


def weights_digest(detector: Detector) -> str | None:
    """SHA-256 of the weights of a detector's networks; None where it holds none as a ``torch.nn.Module``."""
    held = [detector, *getattr(detector, "__dict__", {}).values()]
    values = [item for m in held if isinstance(m, torch.nn.Module) for item in m.state_dict().items()]
    digest = hashlib.sha256()
    for name, value in sorted(values, key=lambda item: item[0]):
        if not isinstance(value, Tensor) or value.is_quantized or value.layout != torch.strided:
            digest.update(f"{name} {value}".encode())  # packed weights of a quantised network, which are no plain bytes
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if values else None


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(read_regular(path, LARGEST_FILE)).hexdigest()
    except OSError as error:
        raise RunError(f"{shown(path)}: cannot read the annotations: {error.strerror}") from error


def as_batch(pixels: np.ndarray) -> Tensor:
    """``uint8 [H, W, 3]`` as ``float32 [1, 3, H, W]`` in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


def moved(target: Target, device: torch.device) -> Target:
    """The target on a torch device."""
    masks = None if target.masks is None else target.masks.to(device)
    return Target(target.boxes.to(device), target.category_ids.to(device), masks)


def mirrored(target: Target, width: int) -> Target:
    """The target of the image mirrored left to right."""
    boxes = target.boxes.clone()
    boxes[:, [0, 2]] = width - target.boxes[:, [2, 0]]
    return Target(boxes, target.category_ids, None if target.masks is None else target.masks.flip(2))


def _open_detection(options: TaskOptions) -> VisionTask:
    return open_task("detection", options.detector, options.annotations, options.viewing_weight)


def _open_segmentation(options: TaskOptions) -> VisionTask:
    return open_task("segmentation", options.detector, options.annotations, options.viewing_weight)


DETECTION = TaskKind(_open_detection, recorded_task)
SEGMENTATION = TaskKind(_open_segmentation, recorded_task)
