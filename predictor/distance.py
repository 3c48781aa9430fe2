"""How far a RAW lies from those that a predictor was trained on, and when it is better not to follow it.

The distance is Mahalanobis', of what the network sees: the pooled features of its last encoder and, where they are
inputs, the metadata. Each of both is divided by the root of its length, so that training RAWs lie at about 1, and the
larger counts: metadata are few, and together with hundreds of features they would be drowned. The limit is a
quantile of the distances of the validation split, whose scenes the training never saw: with 0.99, one in a hundred RAWs
as ordinary as those is declined. What varies little in training has a floor (:data:`FLOOR` of the typical spread;
:data:`METADATA_FLOOR` for metadata): metadata that were always there and are missing now are far away, not infinitely.

Stored beside the weights, in the folder ``distance`` of the train run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.weights import FILE_NAME, WeightsError, load_weights, save_weights, whole_number
from predictor.files import LoadedPredictor, input_planes, load_predictor
from predictor.metadata import metadata_vector

FOLDER = "distance"
QUANTILE = 0.99
FLOOR = 0.05
METADATA_FLOOR = 0.1


@dataclass(frozen=True)
class Distance:
    """What is known of the training RAWs.

    Attributes:
        mean: ``float64 [D]``, features, then metadata; ``whiten``: ``float64 [D, D]``, so that ``whiten @ (x - mean)``
            of the training RAWs has independent parts of variance 1 or less.
        metadata: how many of the D are metadata.
        limit: beyond it a RAW is declined; None where there was no validation RAW to calibrate it on: none is declined.
        quantile: of the validation split's distances, where the limit lies.
    """

    mean: np.ndarray
    whiten: np.ndarray
    metadata: int
    limit: float | None
    quantile: float

    def of(self, predictor: LoadedPredictor, raw: RawFrame) -> float:
        """The distance of a RAW; about 1 for those that were trained on.

        Raises:
            WeightsError: the predictor is not the one that this was learned with.
        """
        seen = _seen(predictor, raw)
        if len(seen) != len(self.mean) or predictor.network.config.metadata != self.metadata:
            raise WeightsError(
                "the distance from the training RAWs is another predictor's; run `workbench train` again"
            )
        return self._of(seen)

    def declines(self, distance: float) -> bool:
        """Whether a RAW at that distance is declined: the best fixed set is to be used instead."""
        return self.limit is not None and distance > self.limit

    def _of(self, seen: np.ndarray) -> float:
        parts = np.split(self.whiten @ (seen - self.mean), [len(seen) - self.metadata])
        return max(math.sqrt(float(np.mean(part**2))) for part in parts if len(part))


@torch.no_grad()
def _seen(predictor: LoadedPredictor, raw: RawFrame) -> np.ndarray:
    """``float64 [D]``: pooled features, and the metadata where they are inputs."""
    pooled = predictor.network.pooled_features(input_planes(raw, predictor.longest)[None])[0].double().numpy()
    return np.concatenate([pooled, metadata_vector(raw).astype(float)]) if predictor.metadata else pooled


def fit_distance(
    folder: Path, training: Iterable[RawFrame], held_out: Iterable[RawFrame], *, quantile: float = QUANTILE
) -> Distance:
    """Learn what the predictor of a run's folder was trained on, and store it there.

    Args:
        folder: of the train run, with its predictor.
        training: the RAWs that it was trained on, at least one, read one by one.
        held_out: RAWs of the validation split, which set the limit.
        quantile: of their distances, where the limit lies.

    Raises:
        WeightsError: no predictor there, or the disk refused the file.
    """
    predictor = load_predictor(folder)
    rows = np.stack([_seen(predictor, raw) for raw in training])
    metadata = predictor.network.config.metadata
    mean, whiten = _whitening(rows, metadata)
    distance = Distance(mean, whiten, metadata, None, quantile)
    distances = [distance.of(predictor, raw) for raw in held_out]
    if distances:
        distance = replace(distance, limit=float(np.quantile(distances, quantile)))
    (Path(folder) / FOLDER).mkdir(exist_ok=True)
    tensors = {"mean": torch.from_numpy(mean), "whiten": torch.from_numpy(whiten)}
    told = {"limit": distance.limit, "quantile": quantile, "metadata": metadata}
    save_weights(Path(folder) / FOLDER, "distance", tensors, told)
    return distance


def load_distance(folder: Path) -> Distance | None:
    """The distance stored in a train run's folder; None where the run has none (it was made by an older version).

    Raises:
        WeightsError: the file is damaged.
    """
    path = Path(folder) / FOLDER
    if not (path / FILE_NAME).is_file():
        return None
    tensors, told = load_weights(path, "distance")
    try:
        mean, whiten = tensors["mean"].double().numpy(), tensors["whiten"].double().numpy()
        limit = None if told["limit"] is None else float(told["limit"])
        if mean.ndim != 1 or whiten.shape != (len(mean), len(mean)):
            raise ValueError("shapes")
        figures = (mean, whiten, 0.0 if limit is None else limit, quantile := float(told["quantile"]))
        if not all(np.isfinite(figure).all() for figure in figures):
            raise ValueError("figures that are not finite")
        return Distance(mean, whiten, whole_number(told["metadata"], "metadata", 0, len(mean)), limit, quantile)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: does not fit its description; run `workbench train` again") from error


def apply_declining(
    sets: Sequence[ParameterSet], distances: Sequence[float], limit: float | None, fixed: ParameterSet
) -> tuple[ParameterSet, ...]:
    """The predicted sets, with the best fixed set in place of those of RAWs that are declined.

    Args:
        sets: a prediction a RAW.
        distances: of the RAWs.
        limit: beyond it a RAW is declined; None declines none.
        fixed: what is used instead.
    """
    return tuple(
        fixed if limit is not None and distance > limit else predicted
        for predicted, distance in zip(sets, distances, strict=True)
    )


def _whitening(rows: np.ndarray, metadata: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and whitening of ``[n, D]``, whose last ``metadata`` columns are metadata."""
    mean = rows.mean(axis=0)
    spread = rows.std(axis=0)
    features = rows.shape[1] - metadata
    typical = math.sqrt(float(np.mean(spread[:features] ** 2))) or 1.0
    floor = np.full(rows.shape[1], METADATA_FLOOR)
    floor[:features] = FLOOR * typical
    scale = np.maximum(spread, floor)
    root = np.zeros((rows.shape[1],) * 2)
    for part in (slice(features), slice(features, None)):
        own = ((rows - mean) / scale)[:, part]
        if own.shape[1]:
            root[part, part] = _inverse_root(own)
    return mean, root / scale


def _inverse_root(rows: np.ndarray) -> np.ndarray:
    """Inverse square root of the covariance of centred rows ``[n, D]``, shrunk as Ledoit and Wolf (2004) say.

    A pure covariance of few RAWs would call every new direction infinitely far.
    """
    from sklearn.covariance import ledoit_wolf

    covariance = ledoit_wolf(rows, assume_centered=True)[0] if len(rows) > 1 else np.zeros((rows.shape[1],) * 2)
    # Never quite without the identity: constant columns would leave it singular.
    values, vectors = np.linalg.eigh(0.99 * covariance + 0.01 * np.eye(len(covariance)))
    root: np.ndarray = (vectors / np.sqrt(values)) @ vectors.T
    return root
