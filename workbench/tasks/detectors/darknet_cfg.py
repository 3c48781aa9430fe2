"""Darknet's ``.cfg`` files: sections of keys. As in Darknet, the first of several equal keys counts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drivers.foreign_text import shown
from drivers.regular_files import TEXT_BYTES, read_regular
from workbench.console.notes import Notes
from workbench.tasks.detectors import DetectorError

_ALIASES = {"conv": "convolutional", "max": "maxpool", "avg": "avgpool", "network": "net"}
# What Darknet knows in each section; the keys that matter here and those of its training alike.
_KNOWN = {
    "net": """batch subdivisions time_steps track width height channels inputs letter_box momentum decay learning_rate
        learning_rate_min burn_in max_batches policy steps scales seq_scales step scale gamma power angle aspect
        saturation exposure hue max_crop min_crop flip mosaic mosaic_bound mixup cutmix blur gaussian_noise label_smooth
        label_smooth_eps adam B1 B2 eps loss_scale dynamic_minibatch optimized_memory workspace_size_limit_MB
        try_fix_nan show_receptive_field attention adversarial_lr contrastive contrastive_jit_flip contrastive_color
        unsupervised max_chart_loss reset sequential_subdivisions num_sigmas sgdr_cycle sgdr_mult ema_alpha ema_start
        use_cuda_graph badlabels_rejection_percentage equidistant_point num_sigmas_reject_badlabels init_sequential
        weights_reject_freq mini_batch augment_speed sequence letterbox""",
    "convolutional": """batch_normalize cbn filters size stride stride_x stride_y pad padding activation groups dilation
        binary xnor bin_output flipped dot learning_rate dontload dontloadscales stopbackward antialiasing
        assisted_excitation deform reverse rotate share_index stretch stretch_sway sway sway_stretch coordconv
        grad_centr burnin_update train_only_bn angle numload receptive_field""",
    "shortcut": "from activation weights_type weights_normalization alpha beta learning_rate",
    "route": "layers groups group_id stopbackward learning_rate dontload",
    "maxpool": "size stride stride_x stride_y padding maxpool_depth out_channels antialiasing",
    "upsample": "stride scale reverse",
    "yolo": """mask anchors classes num total max map jitter resize ignore_thresh truth_thresh random scale_x_y
        iou_thresh cls_normalizer iou_normalizer obj_normalizer delta_normalizer iou_loss iou_thresh_kind nms_kind
        beta_nms max_delta counters_per_class label_smooth_eps objectness_smooth focal_loss new_coords
        track_history_size
        sim_thresh dets_for_track dets_for_show track_ciou_norm embedding_layer cls_norm class_normalizer
        background absolute softmax coords rescore object_scale noobject_scale class_scale coord_scale bias_match
        thresh""",
    "dropout": "probability dropblock dropblock_size_rel dropblock_size_abs",
    "avgpool": "",
}


@dataclass
class Section:
    """One section of a ``.cfg`` file.

    Attributes:
        kind: its name in lower case, aliases resolved.
        where: file and line, for messages.
        options: key → value as written; of several equal keys the first.
        again: keys that stand again with another value: key, that value, its line.
    """

    kind: str
    where: str
    options: dict[str, str] = field(default_factory=dict)
    again: list[tuple[str, str, int]] = field(default_factory=list)

    def _number(self, key: str, text: str, kind: type[int] | type[float]) -> float:
        try:
            value = kind(text)
            if np.isfinite(value):
                return value
        except (ValueError, OverflowError):
            pass
        what = "a whole number" if kind is int else "a number"
        raise DetectorError(f"{self.where}: [{self.kind}] {key}={text} is not {what}")

    def integer(self, key: str, default: int, lowest: int = 0, highest: int = 1 << 30) -> int:
        """The whole number of a key.

        Raises:
            DetectorError: it is none, or out of lowest..highest.
        """
        value = int(self._number(key, self.options.get(key, str(default)), int))
        if not lowest <= value <= highest:
            raise DetectorError(f"{self.where}: [{self.kind}] {key}={value} is not within {lowest}..{highest}")
        return value

    def real(self, key: str, default: float) -> float:
        """The number of a key."""
        return float(self._number(key, self.options.get(key, str(default)), float))

    def numbers(self, key: str, kind: type[int] | type[float]) -> list[float]:
        """The comma-separated numbers of a key; none where it is missing."""
        parts = (part.strip() for part in self.options.get(key, "").split(","))
        return [self._number(key, part, kind) for part in parts if part]


def read_cfg(path: Path) -> list[Section]:
    """The sections of a Darknet ``.cfg`` file in their order.

    Raises:
        DetectorError: it cannot be read, is no such file, or does not begin with ``[net]``.
    """
    try:
        lines = read_regular(path, TEXT_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DetectorError(
            f"{shown(path)}: cannot read the Darknet .cfg: {error.strerror}; give darknet:FILE.cfg"
        ) from error
    except UnicodeDecodeError as error:
        raise DetectorError(f"{shown(path)}: is not a Darknet .cfg, which is text") from error
    sections: list[Section] = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].split(";")[0].strip()
        if not text:
            continue
        where = f"{shown(path)}, line {number}"
        if text.startswith("[") and text.endswith("]"):
            kind = text[1:-1].strip().lower()
            sections.append(Section(_ALIASES.get(kind, kind), where))
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not sections:
            raise DetectorError(f"{where}: {text[:60]!r} is neither [section] nor key=value within one")
        if sections[-1].options.setdefault(key, value) != value:
            sections[-1].again.append((key, value, number))
    if not sections or sections[0].kind != "net":
        raise DetectorError(f"{shown(path)}: a Darknet .cfg begins with [net]; this one does not")
    return sections


def odd_keys(path: Path, sections: Sequence[Section]) -> list[str]:
    """Notes on keys that do not count: those that stand again with another value, and those that Darknet lacks."""
    notes = Notes()
    for section in sections:
        for key, value, line in section.again:
            notes.add(
                "keys stand twice in their section, of which the first counts as in Darknet",
                f"line {line} [{section.kind}] {key}={value} after {key}={section.options[key]}",
            )
        known = _KNOWN.get(section.kind, "").split()
        for key in section.options:
            if section.kind in _KNOWN and key not in known:
                near = difflib.get_close_matches(key, known, 1)
                meant = f" (is {near[0]} meant?)" if near else ""
                notes.add("keys are unknown to Darknet and do not count", f"[{section.kind}] {key}{meant}")
    return notes.lines(path.name)
