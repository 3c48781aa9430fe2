"""``workbench export-tuning``: what a run found as a tuning file of the vendor's kind, through a template.

A tuning file cannot look at a RAW; what it can hold is one set, or a table over ISO. A fixed set and an industry table
are that already. Of a regression and of a predictor the table has what they choose, on the mean, for the lab's training
RAWs nearest to each knot of ISO; what of their gain needs the RAW itself stays behind.

A template (Jinja2) is given:

``run``, ``device``
    name of the run, identity of the device
``parameters``
    those to write, in the device's order, each with ``name``, ``block``, ``kind``, ``unit``, ``low``, ``high``,
    ``step``, ``choices`` and ``description``
``left_out``
    name and reason of the parameters that the camera's own loops set
``sets``
    at least one, by ascending ISO: ``iso`` (None where one set is for all), ``values`` and ``codes`` by name

and the filters ``identifier`` (a name as C has it), ``comment`` (text that ends no comment and no line), ``json`` and
``nested`` (values of names with a prefix, by what ``__`` parts) beside Jinja's own, and ``refuse(why)``, which
ends with that as the error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from drivers.foreign_text import shown
from drivers.parameter import GAINS, Native
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import TEXT_BYTES, read_regular
from drivers.splits import Split
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, recorded_run
from workbench.lab.stratified import stratified
from workbench.learn.predictors import open_predictor
from workbench.rules.industry import IndustryTable, knots_of, nearest_knot
from workbench.rules.mean_of_sets import mean_of
from workbench.rules.regression import Regression
from workbench.rules.tuned import FixedSet, TunedRule, UnderSettings, load_rule

SHIPPED = ("c-header", "ini", "json", "libcamera-rkisp1", "libcamera-rpi")
"""Templates by name, in ``templates/`` beside this module."""
RAWS_A_KNOT = 40
"""Training RAWs that a predictor's choice at a knot of ISO is the mean of, at most."""
_Found = tuple[float | None, ParameterSet, int | None]
"""ISO, set, and the RAWs that it is the mean of."""


@dataclass(frozen=True)
class TuningSet:
    """One set of a tuning file.

    Attributes:
        iso: of the knot; None: for all.
        values: native values by name; ``codes``: as in the device's registers.
        raws: training RAWs whose choices it is the mean of; None where it was tuned as it is.
    """

    iso: float | None
    values: dict[str, Native]
    codes: dict[str, int]
    raws: int | None = None


@dataclass(frozen=True)
class Tuning:
    """What a run found, as far as a table over ISO can hold it.

    Attributes:
        run, device: name of the run, identity of the device.
        space: the device's parameters.
        left_out: parameters that the camera's own loops set, with what set them in the lab.
        sets: by ascending ISO, at least one.
    """

    run: str
    device: str
    space: ParameterSpace
    left_out: dict[str, str]
    sets: tuple[TuningSet, ...]


def tuning_of(lab: Path, name: str) -> Tuning:
    """What a ``tune`` or ``train`` run found.

    Raises:
        RunError: no such run, or it is of another kind or cannot be read.
    """
    run = RunFolder.open(recorded_run(lab, name))
    # A run of another kind, or one that never finished, is told by what finds it.
    run = find_run(lab, "train" if run.kind == "train" else "tune", name)
    if run.kind == "train":
        predictor = open_predictor(run)
        rule: TunedRule | None = None if predictor.base is None else predictor.base.of
        identity = predictor.device_identity
        space = predictor.space
    else:
        predictor = None
        identity = str(run.device.identity)
        with Dataset.open(lab, create=False) as dataset:
            space = dataset.space(identity)
        rule = load_rule(run, space)
    left_out = _left_out(rule, space)
    bare = rule.rule if isinstance(rule, UnderSettings) else rule
    sets: Sequence[_Found]
    if predictor is None and isinstance(bare, FixedSet):
        sets = [(None, _held(rule, bare.parameters), None)]
    elif predictor is None and isinstance(bare, IndustryTable):
        sets = [(iso, _held(rule, one), None) for iso, one in zip(bare.knots, bare.sets, strict=True)]
    else:
        chooses = predictor.predict if predictor is not None else _each(rule)
        sets = _over_iso(lab, run, chooses)
    kept = [name for name in space.names if name not in left_out]
    made = tuple(
        TuningSet(iso, {n: p[n] for n in kept}, {n: p.by_name[n] for n in kept}, raws) for iso, p, raws in sets
    )
    return Tuning(run.name, identity, space, left_out, made)


def _each(rule: TunedRule | None) -> Any:
    assert rule is not None
    return lambda raws: [rule.parameters_for(raw) for raw in raws]


def _left_out(rule: TunedRule | None, space: ParameterSpace) -> dict[str, str]:
    """The parameters that the camera's own loops set: what a setting sets by rule, and gains of a white balance."""
    bare, found = (rule.rule, rule.by_rule) if isinstance(rule, UnderSettings) else (rule, {})
    if isinstance(bare, IndustryTable | Regression) and bare.white_balance is not None:
        for parameter in space.parameters:
            if parameter.role in GAINS:
                found.setdefault(parameter.name, f"{bare.white_balance} white balance")
    return {name: found[name] for name in space.names if name in found}


def _held(rule: TunedRule | None, parameters: ParameterSet) -> ParameterSet:
    """The set with what settings hold; where that breaks a constraint it is repaired, as where the device got it."""
    held = rule.held if isinstance(rule, UnderSettings) else {}
    return parameters.with_codes({name: parameters.space[name].to_code(value) for name, value in held.items()})


def _over_iso(lab: Path, run: RunFolder, chooses: Any) -> list[_Found]:
    """The mean of what is chosen for training RAWs, at knots of their ISO."""
    with Dataset.open(lab, create=False) as dataset:
        raws = dataset.raws(Split.TRAIN)
        if not raws:
            raise RunError(f"{lab}: has no training RAW to ask {run.name} about; collect some first")
        knots = knots_of(raws)
        known = any(raw.iso for raw in raws)
        found: list[_Found] = []
        for place, knot in enumerate(knots):
            near: Sequence[RawRecord] = [raw for raw in raws if nearest_knot(knots, raw.iso) == place]
            if not near:
                continue
            chosen = stratified(near, min(RAWS_A_KNOT, len(near)), 0)
            # One by one: large frames would not fit into memory together.
            sets = [chooses([raw.load()])[0] for raw in each(f"sets near ISO {knot:g}", chosen)]
            found.append((knot if known else None, mean_of(sets), len(chosen)))
    return found


def at_iso(tuning: Tuning, iso: float) -> Tuning:
    """The tuning with the set for that ISO alone: the nearest knot's, in octaves.

    Raises:
        RunError: the run has one set for all ISO.
    """
    knots = [one.iso for one in tuning.sets]
    if None in knots:
        raise RunError(f"run {tuning.run}: has one set for all ISO; leave --iso out")
    return replace(tuning, sets=(tuning.sets[nearest_knot([float(k or 0) for k in knots], iso)],))


def render(tuning: Tuning, template: str) -> str:
    """A tuning through a template.

    Args:
        tuning: of :func:`tuning_of`.
        template: one of :data:`SHIPPED`, or a file.

    Raises:
        RunError: no such template, or it is no template or asks for what is not there; with the line.
    """
    shipped = Path(__file__).parent / "templates" / f"{template}.j2"
    path = shipped if template in SHIPPED else Path(template)
    try:
        text = read_regular(path, TEXT_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise RunError(
            f"{shown(template)}: cannot be read as a template ({why}); give {', '.join(SHIPPED)}, or a Jinja2 file"
        ) from error
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"identifier": identifier, "json": _json, "comment": _comment, "nested": nested}
    environment.globals["refuse"] = _refuse
    kept = [p for p in tuning.space.parameters if p.name not in tuning.left_out]
    given = {
        "run": tuning.run,
        "device": tuning.device,
        "parameters": kept,
        "left_out": tuning.left_out,
        "sets": tuning.sets,
    }
    line = "?"
    try:
        return environment.from_string(text).render(given)
    except TemplateSyntaxError as error:
        line, why = str(error.lineno), str(error.message)
        cause: Exception = error
    except _RefusedError as error:
        raise RunError(f"{shown(template)}: {error}") from error
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<template>":
                line = str(trace.tb_lineno)
            trace = trace.tb_next
        why, cause = str(error), error
    raise RunError(f"{shown(template)}, line {line}: {shown(why):.200}; mend the template") from cause


def nested(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Values by algorithm and key, of the names that begin with the prefix.

    >>> nested({"rpi_denoise__sdn__strength": 0.5, "gamma": 2.2}, "rpi_")
    {'denoise': {'sdn': {'strength': 0.5}}}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith(prefix) and "__" in name:
            *algorithm, key = name.removeprefix(prefix).split("__")
            place = found
            for part in algorithm:
                place = place.setdefault(part, {})
            place[key] = value
    return found


class _RefusedError(TemplateError):
    """What a template says of a tuning that it cannot write."""


def _refuse(why: str) -> None:
    raise _RefusedError(why)


def identifier(name: str) -> str:
    """A name as C and its like have it: letters, digits and underscores, no digit first."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{made}" if made[:1].isdigit() or not made else made


def _comment(value: object) -> str:
    """Text that may stand in a comment of C, or at the end of a line: a device's texts are others' words."""
    return shown(value).replace("*/", "* /").replace("/*", "/ *")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
