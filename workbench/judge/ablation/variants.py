"""What is compared: table 3's rows, figure 5c's depths, and the inputs; and the settings of a study."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers.parameters import ParameterSet
from predictor.model import ENCODERS, Attention
from predictor.training import Recipe
from workbench.errors import RunError
from workbench.learn.base_rule import BaseRule
from workbench.rules.setting import Setting


@dataclass(frozen=True)
class Variant:
    """A way of predicting; ``fixed``: one set for all RAWs, the mean of its predictions for training RAWs."""

    attention: Attention
    encoders: int
    metadata: bool
    fixed: bool = False

    @property
    def trained(self) -> str:
        """Names the network, ``multi-5``; variants of one network share it."""
        return f"{self.attention}-{self.encoders}{'' if self.metadata else '-image'}"

    @property
    def key(self) -> str:
        """Names the variant."""
        return f"fixed-{self.trained}" if self.fixed else self.trained

    @property
    def label(self) -> str:
        """The variant for people."""
        names = {"none": "no attention", "single": "single attention", "self": "self-attention"}
        inputs = "image + metadata" if self.metadata else "image only"
        text = f"{names.get(self.attention, 'multi-attention')}, {self.encoders} encoders, {inputs}"
        return f"fixed at the mean ({text})" if self.fixed else text


@dataclass(frozen=True)
class AblationSettings:
    """What to ablate.

    Attributes:
        recipe: what all variants share; its attention and encoders are set by each variant, its metadata by all but the
            one that shows what metadata are worth.
        seeds: of the trainings.
        only: keys of the variants to make; empty: all.
        proxy: ``fit-proxy`` run; None for the newest.
        prefix: of the train runs' names.
        scatter: the two parameters of figure 5b; None: the noise-reduction strength and the sharpening amount that the
            predictions spread most.
        raw: test RAW of figure 6 by name; None: the first.
        start: what the untrained networks predict; None: the device's default parameters.
        test_raws: how many test RAWs, spread over scenes and ISO; 0: all.
        on_top_of: the rule that all learn a difference to: a ``tune`` run, a rule's name for the newest of it, or the
            rule itself; all is followed.
        setting: who sets parameters that are not predicted, see :func:`workbench.rules.resolving.resolve`.
    """

    recipe: Recipe = field(default_factory=Recipe)
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] = ()
    proxy: str | None = None
    prefix: str = "ablate"
    scatter: tuple[str, str] | None = None
    raw: str | None = None
    test_raws: int = 0
    start: ParameterSet | None = None
    on_top_of: str | BaseRule | None = None
    setting: str | Path | Setting | None = None

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RunError("give at least one seed and none twice, as in --seeds 0,1,2")
        known = [v.key for v in all_variants(self.recipe.metadata)]
        if unknown := [key for key in self.only if key not in known]:
            raise RunError(f"unknown variant {unknown[0]!r}; there are {', '.join(known)}")

    @property
    def reference(self) -> Variant:
        """The paper's network, with which the others are compared."""
        return Variant("multi", ENCODERS, self.recipe.metadata)

    @property
    def variants(self) -> list[Variant]:
        """The variants to make, in the table's order."""
        return [v for v in all_variants(self.recipe.metadata) if not self.only or v.key in self.only]


def all_variants(metadata: bool) -> list[Variant]:
    """Table 3 from its top, then figure 5c, then the paper's network with the other inputs."""
    full = Variant("multi", ENCODERS, metadata)
    table = [replace(full, fixed=True), *(replace(full, attention=a) for a in ("none", "single", "self")), full]
    more = [replace(full, encoders=n) for n in (3, 4, 6)]
    return [*table, *more, replace(full, metadata=not metadata)]


def about(variant: Variant, settings: AblationSettings) -> list[str]:
    """Which of the paper's studies a variant is part of: table 3, figure 5c, or ours of the inputs."""
    parts = []
    if variant.metadata != settings.recipe.metadata:
        return ["inputs"]
    if variant.encoders == ENCODERS:
        parts.append("table 3")
    if variant.attention == "multi" and not variant.fixed:
        parts.append("figure 5c")
    return [*parts, "inputs"] if variant == settings.reference else parts
