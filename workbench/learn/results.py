"""What ``fit-proxy`` and ``train`` runs record of their results, as ``results`` of their ``run.json``."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from workbench.lab.results import Model
from workbench.lab.run_results import RunResult
from workbench.rules.setting import Setting

Curve = tuple[tuple[int, float | None], ...]


class HeldOutPsnr(Model):
    """PSNR in dB of the proxy's outputs against the device's, over held-out captures.

    Attributes:
        captures: how many; psnr: their mean; psnr_median, psnr_p5: their median and fifth percentile.
    """

    captures: int
    psnr: float
    psnr_median: float
    psnr_p5: float


class Following(Model):
    """How the proxy follows the device when a parameter moves; of a block the mean over its parameters.

    What a record does not tell is None, as is a direction or size where nothing moved.

    Attributes:
        device_change: how far the device's output moved, as root mean square in 8-bit levels.
        cosine: agreement of the direction of the two changes, 1 perfect, 0 unrelated.
        gain: size of the proxy's change along the device's, 1 perfect, 0 the proxy does not react.
        psnr: mean PSNR in dB of the proxy against the device over the probes' outputs.
        ssim: the same in SSIM.
    """

    device_change: float | None = None
    cosine: float | None = None
    gain: float | None = None
    psnr: float | None = None
    ssim: float | None = None

    @property
    def direction(self) -> float:
        """The cosine; 0 where there is none, as where the device or the proxy does not move at all."""
        return 0.0 if self.cosine is None or not math.isfinite(self.cosine) else self.cosine


MATTERS_DB = 0.1
"""Change of the device's loss, in dB of PSNR, above which a parameter's moves matter."""
LOSS_FOLLOWED = 0.8
"""Rank correlation of the proxy's change of the loss with the device's that a parameter which matters should have."""


class LossFollowing(Model):
    """How the loss follows a parameter, over moves from sensible sets, of several sizes and both ways, on new RAWs.

    Attributes:
        moves: how many, over all RAWs.
        psnr_change: how far the device's PSNR to the reference changed, root mean square in dB; psnr_change_proxy: the
            proxy's.
        psnr_rank: Spearman's rank correlation of the two changes; 0 where the proxy does not move, None where the
            device does not, or there are too few moves.
        ssim_change, ssim_rank: the same in SSIM; None where pictures are too small for it.
    """

    moves: int
    psnr_change: float | None = None
    psnr_change_proxy: float | None = None
    psnr_rank: float | None = None
    ssim_change: float | None = None
    ssim_rank: float | None = None

    @property
    def matters(self) -> bool:
        """Whether the device's loss changes by enough to be worth following."""
        return (self.psnr_change or 0.0) > MATTERS_DB


class Movement(Following):
    """:class:`Following` of one parameter; ``block``: its block; ``loss``: None where it was not measured."""

    parameter: str
    block: str = "–"
    loss: LossFollowing | None = None


class FidelityReport(Model):
    """Whether a proxy moves as its device moves, and whether it ranks parameter sets as the device does.

    Attributes:
        parameters: in the order of the space; blocks: by name.
        rank_correlation: mean Spearman correlation of PSNR over held-out parameter sets; None where nothing could be
            ranked.
        split: of the RAWs that it was measured on.
        rank_raws, rank_sets: how many RAWs and sets were ranked.
        around: the ``tune`` run whose sets the moves of the loss start from; None: the device's defaults, or no moves.
        loss_raws, loss_split, loss_captures: RAWs of those moves, their split, and the captures that they took.
        failed, failed_share, failures_by_reason: frames that failed.
        captures: that the report took.
        faults: what the device did wrong meanwhile and was mended, by unit.
        notes: what was not measured and why, one line each.
    """

    parameters: tuple[Movement, ...] = ()
    blocks: dict[str, Following] = Field(default_factory=dict)
    rank_correlation: float | None = None
    split: str = ""
    rank_raws: int = 0
    rank_sets: int = 0
    around: str | None = None
    loss_raws: int = 0
    loss_split: str = ""
    loss_captures: int = 0
    failed: int = 0
    failed_share: float = 0.0
    failures_by_reason: dict[str, int] = Field(default_factory=dict)
    captures: int | None = None
    faults: dict[str, dict[str, int]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def that_matter(self) -> list[Movement]:
        """Parameters whose moves change the device's loss by more than :data:`MATTERS_DB`."""
        return [m for m in self.parameters if m.loss is not None and m.loss.matters]

    @property
    def loss_followed(self) -> list[Movement]:
        """Of those, the parameters of which the proxy ranks the moves at :data:`LOSS_FOLLOWED` or better."""
        ranked = ((m, m.loss.psnr_rank) for m in self.that_matter if m.loss is not None)
        return [m for m, rank in ranked if rank is not None and rank >= LOSS_FOLLOWED]


class ProxyFitResult(RunResult):
    """The results of a ``fit-proxy`` run.

    Attributes:
        curve: step and running loss (mean log squared error), every twenty steps.
        captures: how many the proxy was fitted to.
        new_sets_known_raws, new_sets_new_raws: its accuracy on captures that it never saw; None where there are none.
        fidelity: None where no device was asked.
        weights_sha256: of the file of weights; None in runs of older versions.
    """

    WHAT: ClassVar[str] = "results of a fit-proxy run"

    curve: Curve = ()
    captures: int | None = None
    new_sets_known_raws: HeldOutPsnr | None = None
    new_sets_new_raws: HeldOutPsnr | None = None
    fidelity: FidelityReport | None = None
    weights_sha256: str | None = None


class FollowedBlock(Model):
    """How far a block is followed: ``factor``, and what that gains over 0 with the others as they are.

    ``gain`` is in the metric's unit, larger is better; None where nothing is followed, or it was not measured.
    """

    block: str
    factor: float
    gain: float | None = None
    standard_error: float | None = None


class FollowResult(Model):
    """How far a predictor is followed away from its rule, chosen on the device.

    Attributes:
        metric, unit: what judged; split: of the RAWs.
        raws, scenes: how many; captures: distinct ones looked at, of ``budget``; device_s: seconds of the device.
        rule, everything, chosen: the metric with nothing followed, with everything, and as chosen; None where a frame
            failed.
        gain: mean over scenes of what is chosen over the rule, larger is better; standard_error: of it.
        blocks: in the order of the space.
    """

    metric: str
    unit: str = ""
    split: str = "validation"
    raws: int
    scenes: int
    captures: int
    budget: int
    device_s: float
    rule: float | None
    everything: float | None
    chosen: float | None
    gain: float
    standard_error: float | None
    blocks: tuple[FollowedBlock, ...]


class RefineRound(Model):
    """A round of a refinement.

    Attributes:
        captures: distinct ones looked at so far.
        explained: share of the gains' variance that the response explains, on RAWs left out of its fit.
        raws: of the validation split; gains: of the round's answers over what is refined on them, by metric, larger is
            better.
    """

    captures: int
    explained: float
    raws: int
    gains: dict[str, float]


class ResponseRank(Model):
    """How the response of a refinement follows the device when one parameter moves from what is refined.

    Attributes:
        parameter, block: their names; moves: how many, over all RAWs.
        changes: how far the device's figures changed, root mean square, by metric.
        rank: Spearman's rank correlation of the changes that the response promised with the device's; 0 where it
            promises none, None where the device does not change, or there are too few moves.
    """

    parameter: str
    block: str
    moves: int
    changes: dict[str, float | None]
    rank: float | None = None


class ResponseRanks(Model):
    """How a response ranks moves of one parameter on RAWs that it was not fitted to.

    Attributes:
        raws: of the validation split; captures: distinct ones that the moves took, beside those of the rounds.
        largest: move of a normalised parameter at most.
        parameters: those that were free to move, in the order of the space.
    """

    raws: int
    captures: int
    largest: float
    parameters: tuple[ResponseRank, ...]

    def that_matter(self, metric: str) -> list[ResponseRank]:
        """Parameters whose moves change a metric in dB by more than :data:`MATTERS_DB` on the device."""
        return [p for p in self.parameters if (p.changes.get(metric) or 0.0) > MATTERS_DB]

    def followed(self, metric: str) -> list[ResponseRank]:
        """Of those, the ones whose moves the response ranks at :data:`LOSS_FOLLOWED` or better."""
        return [p for p in self.that_matter(metric) if p.rank is not None and p.rank >= LOSS_FOLLOWED]


class RefineResult(Model):
    """How a predictor was refined with captures of the device.

    Attributes:
        metrics: what was to gain.
        captures: distinct ones looked at, of ``budget``; device_s: seconds of the device.
        before, before_s: captures, and seconds of the device, that refining and following had cost the source.
        rounds: in their order; best: place of the one that was learnt from.
        reach: how far its answers move a normalised parameter at most; None in runs of older versions.
        ranks: how the response that was learnt from ranks moves of each parameter; None where it was not asked for.
    """

    metrics: tuple[str, ...]
    captures: int
    budget: int
    device_s: float
    before: int = 0
    before_s: float = 0.0
    rounds: tuple[RefineRound, ...]
    best: int
    reach: float | None = None
    ranks: ResponseRanks | None = None


class TrainResult(RunResult):
    """The results of a ``train`` run.

    Attributes:
        curve: step, running loss and, where it was measured, held-out loss.
        held_out_loss: the smallest, of the weights that were kept; None where there were no held-out RAWs.
        averaged: whether the weights kept are the average over the last steps; None where the record does not tell.
        setting: who sets the parameters that are not predicted; None: all are.
        rule_held_out_loss: on top of a rule: of the rule itself.
        parameters: how many weights the network has.
        torch: version of torch.
        notes: what must not go unsaid, such as what of the task's annotations was left out, one line each.
        follow: on top of a rule, where a device was asked: how far it is followed.
        refine: of a refined predictor: what the device was asked.
        faults: what the device did wrong meanwhile and was mended, by unit.
        weights_sha256: of the file of weights; None in runs of older versions.
    """

    WHAT: ClassVar[str] = "results of a train run"

    curve: tuple[tuple[int, float | None, float | None], ...] = ()
    held_out_loss: float | None = None
    parameters: int | None = None
    torch: str = ""
    notes: tuple[str, ...] = ()
    averaged: bool | None = None
    setting: Setting | None = None
    rule_held_out_loss: float | None = None
    follow: FollowResult | None = None
    refine: RefineResult | None = None
    faults: dict[str, dict[str, int]] = Field(default_factory=dict)
    weights_sha256: str | None = None

    @property
    def asked(self) -> tuple[int, float]:
        """What refining and choosing how far to follow looked at: captures, and the device's seconds for them."""
        captures, seconds = (self.refine.before, self.refine.before_s) if self.refine else (0, 0.0)
        for spent in (self.refine, self.follow):
            if spent is not None:
                captures, seconds = captures + spent.captures, seconds + spent.device_s
        return captures, seconds
