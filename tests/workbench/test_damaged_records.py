"""Records of runs that were damaged or edited by hand: every command says so in one line, or gives a result."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from sim_lab import PREDICTOR, PROXY
from small_isp import SPACE, SmallIsp, make_lab

from drivers.errors import WorkbenchError
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from predictor.training import Recipe
from proxy.training import ProxyRecipe
from workbench.board.prediction import predict
from workbench.collect.bench import Bench
from workbench.errors import RunError
from workbench.judge.methods import NONE, ValidationSettings
from workbench.judge.planning import make_plan
from workbench.judge.rerun import rerun
from workbench.judge.validation import validate_run
from workbench.lab import results, run_values
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, list_runs
from workbench.learn.predictor_training import train
from workbench.learn.proxy_fitting import fit_proxy
from workbench.report import write_report
from workbench.rules.tuned import Rule
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory", "undrawn")
DELETED = object()
NUMBERS: tuple[object, ...] = (5, -1, 1.5, math.inf, math.nan, 10**30)
WRONG: tuple[object, ...] = (None, *NUMBERS, True, "text", "", [], [1], [[1]], {}, {"a": 1}, DELETED)
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a run of each kind that is judged; copied before anything changes in it."""
    lab = tmp_path_factory.mktemp("records") / "lab"
    make_lab(lab, train=6, test=3)
    with Dataset.open(lab) as dataset:
        bench = Bench(dataset, SmallIsp(), purpose="collect")
        list(bench.capture_many((r, SPACE.defaults.replace(blur=b)) for r in dataset.raws(Split.TRAIN) for b in (0, 1)))
        settings = TuneSettings("cmaes", captures=24, raws_per_trial=2)
        tune_run(lab, dataset, SmallIsp(), settings, expert=SPACE.defaults, name="fixed")
        tune_run(lab, dataset, SmallIsp(), settings, rule=Rule.industry, name="table")
    fit_proxy(lab, PROXY, device=SmallIsp(), loss_raws=1, name="proxy")
    train(lab, dataclasses.replace(PREDICTOR, steps=1), proxy_run="proxy", on_top_of="table", name="top")
    with Dataset.open(lab) as dataset:
        save_npz(lab / "one.npz", dataset.raws(Split.TEST)[0].load())
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(by_block=False), name="final")
    return lab


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of that lab."""
    return Path(shutil.copytree(made, tmp_path / "lab"))


def validated(lab: Path, **settings: Any) -> None:
    named = {"fixed": NONE, "industry": NONE, "auto": NONE, "predictors": (NONE,), **settings}
    with Dataset.open(lab) as dataset:
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(by_block=False, **named))


def planned(lab: Path) -> None:
    with Dataset.open(lab) as dataset:
        make_plan(lab, dataset, SmallIsp().info().identity, 0.1)


COMMANDS: dict[str, dict[str, Callable[[Path], object]]] = {
    "fixed": {
        "validate": lambda lab: validated(lab, fixed="fixed"),
        "rerun": lambda lab: rerun(lab, "fixed"),
    },
    "table": {
        "validate": lambda lab: validated(lab, industry="table"),
        "train": lambda lab: train(lab, dataclasses.replace(PREDICTOR, steps=1), on_top_of="table"),
    },
    "proxy": {
        "validate": lambda lab: validated(lab, predictors=("top",), proxy="proxy"),
        "rerun": lambda lab: rerun(lab, "proxy"),
    },
    "top": {
        "validate": lambda lab: validated(lab, predictors=("top",)),
        "predict": lambda lab: predict(lab, lab / "one.npz", predictor="top"),
        "rerun": lambda lab: rerun(lab, "top"),
    },
    "final": {"rerun": lambda lab: rerun(lab, "final")},
}
"""What reads the run by its name."""
OF_ALL: dict[str, Callable[[Path], object]] = {"plan": planned, "report": write_report}


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in a record; of a list the first alone."""
    if place:
        yield place
    inside: Sequence[tuple[str | int, Any]] = list(value.items()) if isinstance(value, dict) else []
    inside = list(enumerate(value))[:1] if isinstance(value, list) else inside
    for key, one in inside:
        yield from places(one, (*place, key))


def damaged(record: dict[str, Any], place: Place, wrong: object) -> dict[str, Any]:
    """A copy of a record with another value, or none, in a place; what does not lie around the place is shared."""
    changed = dict(record)
    inner: Any = changed
    for key in place[:-1]:
        inner[key] = copy.copy(inner[key])
        inner = inner[key]
    if wrong is DELETED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = wrong
    return changed


def write(lab: Path, run: str, record: dict[str, Any]) -> None:
    (lab / "runs" / run / "run.json").write_text(json.dumps(record), encoding="utf-8")


def record_of(lab: Path, run: str) -> dict[str, Any]:
    return dict(json.loads((lab / "runs" / run / "run.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("run", "place", "wrong", "told"),
    [
        ("fixed", ("results", "compute_s"), "long", "results.compute_s = 'long': must be a number"),
        ("fixed", ("results", "captures"), math.nan, "results.captures = nan: must be a whole number"),
        ("fixed", ("results", "studies"), 5, "results.studies = 5: must be a list"),
        ("fixed", ("config", "raws_per_trial"), "3", "config.raws_per_trial = '3': must be a whole number"),
        ("fixed", ("config", "scenes"), 5, "config.scenes = 5: must be a list"),
        ("fixed", ("config", "seed"), 10**30, "config.seed = 1000000000000000000000000000000: must be below"),
        ("table", ("config", "scenes"), [["a"]], "config.scenes[0] = ['a']: must be text"),
        ("table", ("config", "task"), None, "config.task = None: must be text"),
        ("table", ("results", "device_s"), math.inf, "results.device_s = inf: must be"),
        ("proxy", ("config", "collected"), [1], "config.collected = [1]: must be a whole number"),
        ("proxy", ("results", "fidelity", "captures"), "many", "results.fidelity.captures = 'many': must be a whole"),
        ("proxy", ("config", "recipe", "width"), 10**9, "config.recipe.width = 1000000000: must be at most"),
        ("proxy", ("started",), None, "started is missing"),
        ("top", ("config", "on_top_of"), "table", "config.on_top_of = 'table': must be a table of keys"),
        ("top", ("config", "on_top_of", "captures"), "24", "config.on_top_of.captures = '24': must be a whole"),
        ("top", ("config", "held"), {"blur": 1}, "config.held = {'blur': 1}: must be a list"),
        ("top", ("config", "recipe", "name"), "slow", "config.recipe.name = 'slow': must be 'paper' or 'fast'"),
        ("final", ("config", "tunes"), None, "config.tunes = None: must be a list"),
        ("final", ("config", "predictors"), "top", "config.predictors = 'top': must be a list"),
    ],
)
def test_a_wrong_value_is_told_with_file_key_and_value_by_every_command(
    lab: Path, run: str, place: Place, wrong: object, told: str
) -> None:
    write(lab, run, damaged(record_of(lab, run), place, wrong))
    line = f"{lab}/runs/{run}/run.json: {told}"
    for command in COMMANDS[run].values():
        with pytest.raises(RunError) as refused:
            command(lab)
        assert str(refused.value).startswith(line)
        assert str(refused.value).endswith("; put the file back, or remove the folder")
        assert "\n" not in str(refused.value)


def test_a_record_that_is_left_out_is_told_once(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(lab, "fixed", damaged(record_of(lab, "fixed"), ("config", "scenes"), 5))
    for _ in range(2):
        assert {one.name for one in list_runs(lab)} == {"table", "proxy", "top", "final"}
    told = capsys.readouterr().err
    assert told == (
        f"note: left out: {lab}/runs/fixed/run.json: config.scenes = 5: must be a list; put the file back, or remove "
        "the folder\n"
    )


@pytest.mark.parametrize("run", list(COMMANDS))
def test_a_record_is_read_or_refused_in_one_line_whatever_stands_in_it(lab: Path, run: str) -> None:
    good, refused = record_of(lab, run), list[str]()
    for place in places(good):
        for wrong in WRONG:
            write(lab, run, damaged(good, place, wrong))
            try:
                RunFolder.open(lab / "runs" / run)
            except RunError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert all(line.startswith(f"{lab}/runs/{run}/run.json: ") and "\n" not in line for line in refused)


@pytest.mark.parametrize("run", list(COMMANDS))
def test_what_is_read_all_the_same_does_not_break_a_command(lab: Path, run: str) -> None:
    """Of the many values that are right for their key, or of which no key is known, a few."""
    good, draw = record_of(lab, run), random.Random(run)
    changes = [(place, wrong) for place in places(good) for wrong in WRONG]
    draw.shuffle(changes)
    commands, tried = {**COMMANDS[run], **OF_ALL}, 0
    for place, wrong in changes:
        write(lab, run, damaged(good, place, wrong))
        try:
            RunFolder.open(lab / "runs" / run)
        except RunError:
            continue
        name = draw.choice(sorted(commands))
        try:
            commands[name](lab)
        except WorkbenchError:
            pass
        except Exception as error:
            pytest.fail(f"{name} with {run}: {'.'.join(map(str, place))} = {wrong!r}: {error!r}")
        tried += 1
        if tried == 6:
            return


class Watched(dict[str, Any]):
    """A table of a record that notes which keys the workbench asks for itself, not through a model."""

    asked: set[tuple[str, str, str]]
    of: tuple[str, str]

    def __getitem__(self, key: str) -> Any:
        self.note(key, sys._getframe(1).f_code.co_filename)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.note(key, sys._getframe(1).f_code.co_filename)
        return super().get(key, default)

    def note(self, key: str, file: str) -> None:
        if Path(run_values.__file__).parents[1] in Path(file).parents and file != results.__file__:
            self.asked.add((*self.of, key))


def test_no_command_reads_a_key_of_a_record_that_has_no_type(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[tuple[str, str, str]] = set()

    def watched(part: str) -> property:
        def read(run: RunFolder) -> Watched:
            table = Watched(getattr(run.record, part) or {})
            table.asked, table.of = asked, (run.kind, part)
            return table

        return property(read)

    monkeypatch.setattr(RunFolder, "config", watched("config"))
    monkeypatch.setattr(RunFolder, "results", watched("results"))
    for commands in (*COMMANDS.values(), OF_ALL):
        for command in commands.values():
            command(lab)
    assert {kind for kind, _, _ in asked} >= set(run_values.OF_KIND) - {"ablate"}
    # A report reads these once the model of all results of the kind has read them; a rerun compares resamples alone.
    seen = {"curve", "history", "raws", "pareto", "resamples"}
    untyped = {(kind, part, key) for kind, part, key in asked if part == "config" or key not in seen}
    for kind, model in run_values.OF_KIND.items():
        for part, field in model.model_fields.items():
            (typed,) = [one for one in get_args(field.annotation) if one is not type(None)]
            untyped -= {(kind, part, key) for key in getattr(typed, "model_fields", ())}
    assert untyped == set()


def test_the_recipes_of_records_have_the_keys_of_the_recipes() -> None:
    assert set(run_values.ProxyRecipe.model_fields) == {f.name for f in dataclasses.fields(ProxyRecipe)}
    assert set(run_values.Recipe.model_fields) == {f.name for f in dataclasses.fields(Recipe)}
