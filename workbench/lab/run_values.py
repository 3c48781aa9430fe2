"""What commands read straight from a run's record, by the run's kind: the keys of ``config`` and ``results``, typed.

A record may be of an older version or a study, damaged, or edited by hand. What it lacks is left out here too; what it
has under a key below is of that key's type, or the record is refused when it is read (``run_record.py``). Further keys
are let through. Of a part that a room has a model of its own for, only the keys that others read stand here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, le=2**53)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as NumPy takes it
Steps = Annotated[int, Field(ge=0, le=10_000_000)]
Size = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=100_000)]  # a limit lets lone surrogates be refused, which no file can hold
Texts = list[Text]
Table = dict[str, Any]


class Values(BaseModel):
    """Keys of a table; numbers and texts are not made of each other."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class OnTopOf(Values):
    """The rule below a predictor, and what it had cost, see :mod:`workbench.learn.base_rule`."""

    run: Text | None = None
    rule: Text | None = None
    sha256: Text | None = None
    captures: Count | None = None
    device_s: Number | None = None
    compute_s: Number | None = None
    scenes: Texts | None = None


class ProxyRecipe(Values):
    """See :class:`proxy.training.ProxyRecipe`."""

    name: Literal["fast", "paper"] = "fast"
    base_steps: Steps = 0
    steps: Steps = 0
    batch: Size = 1
    crop: Size = 1
    learning_rate: Rate = 1.0
    width: Size = 1
    seed: Seed = 0
    mixed: bool = False


class Recipe(Values):
    """See :class:`predictor.training.Recipe`."""

    name: Literal["paper", "fast"] = "fast"
    optimiser: Literal["rmsprop", "adamw"] = "adamw"
    learning_rate: Rate = 1.0
    last_learning_rate: Rate = 1.0
    drop_at: Share = 0.0
    steps: Steps = 0
    epochs: Steps = 0
    batch: Size = 1
    width: Size = 1
    metadata: bool = True
    coarse: Share = 0.0
    seed: Seed = 0
    attention: Literal["multi", "self", "single", "none"] = "multi"
    encoders: Annotated[int, Field(ge=3, le=6)] = 3
    longest: Size = 1
    windows: bool = False
    statistics: bool = False
    mixed: bool = False


class Config(Values):
    """Of every kind of run."""

    task: Text = "viewing"
    vision: Table | None = None
    setting: Table | None = None
    scenes: Texts | None = None
    held_out_scenes: Texts | None = None
    held: Texts | None = None
    study: Text | None = None
    device: Text | None = None
    identity: Text | None = None
    start: Text | None = None
    expert: Text | None = None
    on_top_of: OnTopOf | None = None
    # Names of runs, of which no kind of run has all.
    proxy: Text | None = None
    around: Text | None = None
    fixed: Text | None = None
    industry: Text | bool | None = None  # a tuning says whether it made that table
    auto: Text | None = None
    predictors: Texts = []
    tunes: Texts = []


class FitProxyConfig(Config):
    """Of a ``fit-proxy`` run."""

    recipe: ProxyRecipe = ProxyRecipe()
    captures: Count | None = None
    collected: Count | None = None
    loss_raws: Count | None = None


class TrainConfig(Config):
    """Of a ``train`` run, trained or refined."""

    recipe: Recipe = Recipe()
    metadata: bool | None = None
    raws: Count | None = None
    refine: Table | None = None
    follow_captures: Count | None = None


class TuneConfig(Config):
    """Of a ``tune`` run."""

    method: Text | None = None
    captures: Count | None = None
    raws_per_trial: Count | None = None
    seed: Seed | None = None
    metric: Text = "psnr"
    more_metrics: Texts = []
    rule: Text | None = None
    industry: bool | None = None
    expert_codes: dict[Text, int] | None = None
    raws: Texts = []


class ValidateConfig(Config):
    """Of a ``validate`` run."""

    industry: Text | None = None
    oracle_captures: Count = 0
    oracle_metric: Text | None = None
    remark: Text = ""
    by_block: bool | None = None


class AblateConfig(Config):
    """Of an ``ablate`` run."""

    recipe: Recipe = Recipe()
    seeds: list[Seed] = []
    variants: Texts = []
    trains: Annotated[Texts, Field(min_length=1)] = []
    scatter: Annotated[Texts, Field(min_length=2, max_length=2)] | None = None
    raw: Text | None = None
    test_raws: Count = 0


class Fidelity(Values):
    """Of a proxy's fidelity report."""

    captures: Count | None = None


class FitProxyFigures(Values):
    """What a ``fit-proxy`` run found."""

    captures: Count | None = None
    weights_sha256: Text | None = None
    fidelity: Fidelity | None = None


class FollowedBlock(Values):
    """How far a block is followed."""

    block: Text | None = None
    factor: Number | None = None


class Follow(Values):
    """How far a rule is left."""

    blocks: list[FollowedBlock] | None = None


class TrainFigures(Values):
    """What a ``train`` run found."""

    weights_sha256: Text | None = None
    held_out_loss: Number | None = None
    follow: Follow | None = None


class TuneFigures(Values):
    """What a ``tune`` run found and cost."""

    captures: Count | None = None
    device_s: Number | None = None
    compute_s: Number | None = None
    seconds: Number | None = None
    studies: Texts = []
    file: Text | None = None
    file_sha256: Text | None = None
    parameters_hash: Text | None = None


class Recorded(Values):
    """Of a kind of run that has no keys of its own."""

    config: Config | None = None
    results: Table | None = None


class _FitProxy(Values):
    config: FitProxyConfig | None = None
    results: FitProxyFigures | None = None


class _Train(Values):
    config: TrainConfig | None = None
    results: TrainFigures | None = None


class _Tune(Values):
    config: TuneConfig | None = None
    results: TuneFigures | None = None


class _Validate(Values):
    config: ValidateConfig | None = None
    results: Table | None = None


class _Ablate(Values):
    config: AblateConfig | None = None
    results: Table | None = None


OF_KIND: dict[str, type[Values]] = {
    "fit-proxy": _FitProxy,
    "train": _Train,
    "tune": _Tune,
    "validate": _Validate,
    "ablate": _Ablate,
}
"""Record by the kind of run; of any other :class:`Recorded`."""
