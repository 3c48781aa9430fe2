"""train, tune and validate for detection and segmentation: the commands, on a small lab with a detector of its own."""

import csv
import json
import re
import shutil
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
import typer
from sim_lab import SIDE, make_lab
from typer.testing import CliRunner

from drivers.errors import WorkbenchError
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import load_predictor
from workbench.collect.bench import Bench
from workbench.commands.ablate import ablate
from workbench.commands.fit_proxy import fit_proxy
from workbench.commands.train import train
from workbench.commands.tune import tune
from workbench.commands.validate import validate
from workbench.errors import RunError
from workbench.judge.ablation.results import AblationResult
from workbench.judge.rerun import rerun
from workbench.judge.results import read_validation
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, list_runs
from workbench.report import write_comparison, write_report
from workbench.tasks import vision_data, vision_pictures
from workbench.tasks.detectors import DetectorError, Prediction, Target
from workbench.tasks.task import PictureRow
from workbench.tasks.vision import VisionTask, open_task, recorded_task, weights_digest
from workbench.tasks.vision_data import VisionData

pytestmark = pytest.mark.usefixtures("module_in_memory")
APP = typer.Typer()
APP.command("fit-proxy")(fit_proxy)
APP.command()(train)
APP.command()(tune)
APP.command()(validate)
APP.command()(ablate)
NAMES = [f"{i}.npz" for i in range(9)]
TASK = ("--task", "detection", "--detector", "tests.brightness:make", "--annotations", "annotations.json")
QUARTER = SIDE // 4


class Brightness:
    """Sees the object of :func:`annotations` where the image is neither dark nor bright there; also draws it."""

    name = "brightness"
    category_ids = (1,)
    masks = True

    def _far(self, images: torch.Tensor) -> torch.Tensor:
        return (images[:, :, QUARTER:-QUARTER, QUARTER:-QUARTER].mean((1, 2, 3)) - 0.5).abs()

    def loss(self, images: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return self._far(images).mean()

    def predict(self, images: torch.Tensor) -> list[Prediction]:
        mask = torch.zeros(1, *images.shape[2:], dtype=torch.bool)
        mask[:, QUARTER:-QUARTER, QUARTER:-QUARTER] = True
        box = torch.tensor([[QUARTER, QUARTER, SIDE - QUARTER, SIDE - QUARTER]]).float()
        found = []
        for far in self._far(images).tolist():
            # The further off, the more the box is moved: mAP falls step by step.
            found.append(Prediction(box + 20 * far, torch.tensor([1 - far]), torch.tensor([1]), mask))
        return found

    def to(self, device: torch.device | str) -> Self:
        return self


def annotations(path: Path, names: list[str] = NAMES, side: int = SIDE, category: int = 1) -> None:
    """One object in the middle of every RAW."""
    left, right = QUARTER, SIDE - QUARTER
    corners = [left, left, right, left, right, right, left, right]
    objects = [
        {
            "id": i + 1,
            "image_id": i + 1,
            "category_id": category,
            "bbox": [left, left, right - left, right - left],
            "area": (right - left) ** 2,
            "iscrowd": 0,
            "segmentation": [corners],
        }
        for i in range(len(names))
    ]
    images = [{"id": i + 1, "file_name": n, "width": side, "height": side} for i, n in enumerate(names)]
    categories = [{"id": category, "name": "thing"}]
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))


@pytest.fixture(scope="module")
def vision_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lab(tmp_path_factory.mktemp("vision") / "lab", captures=16, train=5, validation=2, test=2)


@pytest.fixture
def lab(vision_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("tests.brightness")
    module.make = Brightness  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.brightness", module)
    annotations(tmp_path / "annotations.json")
    return Path(shutil.copytree(vision_template, tmp_path / "lab"))


def run(*arguments: str) -> str:
    return CliRunner().invoke(APP, arguments, catch_exceptions=False, env={"COLUMNS": "250"}).stdout


def fit_and_train(*more: str) -> RunFolder:
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    run("train", *TASK, "--steps", "3", "--batch", "4", *more)
    return find_run(Path("lab"), "train")


def test_the_whole_path_of_a_detector(lab: Path) -> None:
    trained = fit_and_train("--viewing-weight", "0.5")
    assert trained.config["task"] == "detection:brightness"
    assert trained.config["vision"]["viewing_weight"] == 0.5
    assert trained.results["held_out_loss"] < 0  # the logarithm of a distance below 1
    assert load_predictor(trained.path).metadata
    assert not (trained.path / "checkpoint").exists()
    told = run("tune", "--device", "sim:sim20", *TASK, "--captures", "24", "--raws-per-trial", "4")
    assert re.search(r"best fixed parameters \(.*\): [01]\.\d{3} on", told)
    run("tune", "--device", "sim:sim20", "--captures", "16", "--raws-per-trial", "4")  # of the other task
    told = run("validate", "--device", "sim:sim20", *TASK)
    found = find_run(lab, "validate")
    results = read_validation(found)
    keys = list(results.by_key)
    predictions = [f"{kind}:{trained.name}" for kind in ("mean", "predicted")]
    assert keys == ["default", "fixed", *predictions, "clean"]
    assert find_run(lab, "tune", results.by_key["fixed"].run).config["task"] == "detection:brightness"
    assert results.facts["objects"] == results.raws == 2
    for row in results.methods:
        strict, loose = row.figures["map"].estimate, row.figures["map50"].estimate
        assert strict is not None
        assert loose is not None
        assert 0 <= strict <= loose <= 1
        assert row.label in told
    for raw in results.per_raw:
        assert set(raw.methods) == set(keys) - {"clean"}
    assert (found.path / "pictures.svg").read_text().count("<image") == 2 * 4
    page = write_report(lab)
    text = page.read_text()
    for piece in (found.name, "mAP50", "log loss", "What the detector sees", "with 2 objects"):
        assert piece in text
    assert "could not" not in text
    assert 'src="http' not in text
    rows = list(csv.DictReader(page.with_suffix(".csv").open()))
    assert [r["label"] for r in rows] == [m.label for m in results.methods]
    assert [float(r["map50"]) for r in rows] == [m.figures["map50"].estimate for m in results.methods]


def test_a_viewing_validation_does_not_take_up_the_runs_of_a_detector(lab: Path) -> None:
    fit_and_train()
    run("tune", "--device", "sim:sim20", *TASK, "--captures", "16", "--raws-per-trial", "4")
    results = json.loads(run("validate", "--device", "sim:sim20", "--oracle-captures", "0", "--json"))
    assert [m["key"] for m in results["methods"]] == ["default"]


def test_runs_of_a_detector_are_repeated_from_their_record(lab: Path) -> None:
    fit_and_train("--name", "learned", "--viewing-weight", "0.25")
    run("tune", *TASK, "--device", "sim:sim20", "--captures", "24", "--raws-per-trial", "4", "--name", "fixed")
    run("validate", *TASK, "--device", "sim:sim20", "--name", "final")
    for name in ("learned", "fixed", "final"):
        outcome = rerun(Path("lab"), name)
        assert outcome.differences == []
        assert outcome.figures > 5
        assert outcome.after.config == outcome.before.config
    record = find_run(Path("lab"), "train", "learned").config["vision"]
    changed = {**record, "weights_sha256": "0" * 64}
    with pytest.raises(RunError, match=r"its weights are not those of the record"):
        recorded_task(changed)
    with pytest.raises(RunError, match=r"nowhere\.cfg: .*; the record's detector was opened from the folder "):
        recorded_task({**record, "detector": "darknet:nowhere.cfg"})
    moved = Path("annotations.json").rename("elsewhere.json")
    with pytest.raises(RunError, match=r"annotations\.json: the annotations that the record names are gone"):
        rerun(Path("lab"), "learned")
    Path("annotations.json").write_text(moved.read_text() + " ")
    with pytest.raises(RunError, match=r"annotations\.json: these are not the annotations of the record \(SHA-256"):
        rerun(Path("lab"), "final")
    assert not list(Path("lab/runs").glob("*-rerun-2"))


def test_the_weights_digest_tells_other_weights() -> None:
    holder = types.SimpleNamespace(network=torch.nn.Linear(2, 3), name="x")
    before = weights_digest(holder)
    assert before == weights_digest(types.SimpleNamespace(network=holder.network))
    with torch.no_grad():
        holder.network.weight[0, 0] += 1
    assert weights_digest(holder) != before
    assert weights_digest(types.SimpleNamespace(name="x")) is None


def test_runs_that_another_judge_made_are_told_and_come_last(lab: Path) -> None:
    def judged_by(value: float) -> None:
        def make() -> Brightness:
            detector = Brightness()
            detector.network = torch.nn.Linear(1, 1)  # type: ignore[attr-defined]
            torch.nn.init.constant_(detector.network.weight, value)  # type: ignore[attr-defined]
            torch.nn.init.zeros_(detector.network.bias)  # type: ignore[attr-defined]
            return detector

        sys.modules["tests.brightness"].make = make  # type: ignore[attr-defined]

    def validated() -> tuple[list[str], list[str]]:
        found = json.loads(run("validate", *TASK, "--device", "sim:sim20", "--json"))
        return [m["run"] for m in found["methods"] if m["run"]], [n for n in found["notes"] if n.startswith("made ")]

    again = "make them again to compare like with like"
    for value, name in ((0.0, "first"), (1.0, "second")):
        judged_by(value)
        run("tune", *TASK, "--device", "sim:sim20", "--captures", "16", "--raws-per-trial", "4", "--name", name)
    assert validated() == (["second"], [])
    judged_by(0.0)
    assert validated() == (["first"], [])
    judged_by(2.0)
    assert validated() == (["second"], [f"made for other weights or settings of detector brightness: second; {again}"])
    judged_by(1.0)
    with Path("annotations.json").open("a") as file:
        file.write("\n")
    assert validated() == (["second"], [f"made before annotations.json was changed: second; {again}"])


def test_a_search_takes_no_score_of_other_annotations(lab: Path) -> None:
    def tuned(where: Path) -> object:
        command = ("--device", "sim:sim20", "--metric", "map", "--captures", "16", "--raws-per-trial", "4")
        run("tune", *TASK, *command, "--lab", str(where))
        return find_run(where, "tune").results["history"]

    alone = Path(shutil.copytree(lab, "alone"))
    before = tuned(lab)
    data = json.loads(Path("annotations.json").read_text())
    for found in data["annotations"]:
        found["bbox"][2] *= 0.8
    Path("annotations.json").write_text(json.dumps(data))
    assert tuned(lab) == tuned(alone) != before


class Slots:
    __slots__ = ()


def test_any_weights_have_a_digest() -> None:
    assert weights_digest(Slots()) is None  # type: ignore[arg-type]
    for dtype in (torch.bfloat16, torch.float16):
        network = torch.nn.Linear(2, 3).to(dtype)
        before = weights_digest(types.SimpleNamespace(network=network))
        with torch.no_grad():
            network.weight[0, 0] += 1
        assert before not in (None, weights_digest(types.SimpleNamespace(network=network)))

    class Packed(torch.nn.Module):
        """As a quantised network's layers: what they hold is no tensor."""

        def __init__(self, scale: int) -> None:
            super().__init__()
            self.scale = scale

        def get_extra_state(self) -> tuple[torch.Tensor, int]:
            return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), self.scale

    digests = [weights_digest(types.SimpleNamespace(network=Packed(scale))) for scale in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_two_validations_of_a_detector_are_compared(lab: Path) -> None:
    fit_and_train("--name", "learned")
    expert = Path("expert.toml")
    for name, gain in (("dark", 0.6), ("bright", 3.0)):
        expert.write_text(f"[white_balance]\ndigital_gain = {gain}\n")
        run("validate", *TASK, "--device", "sim:sim20", "--expert", "expert.toml", "--name", name)
    page = write_comparison(Path("lab"), "dark", "bright")
    text = page.read_text()
    assert "judged by tests.brightness:make" in text
    assert "mAP50" in text
    rows = {r["method"]: r for r in csv.DictReader(page.with_suffix(".csv").open())}
    assert float(rows["default"]["gain"]) == 0
    runs = [json.loads((lab / "runs" / n / "results.json").read_text()) for n in ("dark", "bright")]
    losses = [np.mean([r["methods"]["expert"]["figures"]["loss"] for r in f["per_raw"]]) for f in runs]
    assert float(rows["expert"]["gain"]) == pytest.approx(losses[0] - losses[1]) != 0
    with pytest.raises(RunError, match="is a train run, not a validate run"):
        write_comparison(Path("lab"), "dark", "learned")
    file = lab / "runs" / "bright" / "results.json"
    file.write_text(json.dumps({**runs[1], "detector": "another:one"}))
    with pytest.raises(RunError, match=r"dark and bright: detector .* and another:one; their figures cannot be"):
        write_comparison(Path("lab"), "dark", "bright")
    for text in ("{", '{"methods": []}', "[]"):
        file.write_text(text)
        with pytest.raises(RunError, match=r"results\.json: cannot be read as a validation .* again$"):
            write_comparison(Path("lab"), "dark", "bright")


def test_a_study_of_a_detector_is_in_the_report(lab: Path) -> None:
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    only = ("--only", "fixed-multi-5", "--only", "none-5", "--only", "multi-5")
    sizes = ("--seeds", "0 1 2", "--steps", "1", "--batch", "2", "--width", "4")
    told = run("ablate", "--device", "sim:sim20", *TASK, *sizes, *only, "--name", "study")
    assert "mAP50" in told
    study = AblationResult.read(lab / "runs" / "study" / "results.json")
    assert (study.task, study.main.key, study.of_raws.key) == ("detection", "map50", "loss")
    rows = {row.key: row for row in study.table}
    gain = rows["none-5"].over_reference["map50"]
    by_seed = np.subtract(rows["none-5"].by_seed["map50"], rows["multi-5"].by_seed["map50"])
    assert gain.by_seed == pytest.approx(by_seed)
    assert gain.estimate == pytest.approx(by_seed.mean())
    losses = study.stacked("none-5", "loss")
    assert losses.shape == (3, 2)
    assert rows["none-5"].figures["loss"].estimate == pytest.approx(losses.mean())
    run("validate", "--device", "sim:sim20", *TASK, "--name", "final")
    page = write_report(lab).read_text()
    section = page[page.index("<h2>Ablations") : page.index("<h2>Proxy against device")]
    assert "mAP50" in section
    assert "Refused" not in section
    assert "could not" not in section


def test_masks_are_scored_for_segmentation(lab: Path) -> None:
    task = ("--task", "segmentation", *TASK[2:])
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    run("train", *task, "--steps", "2", "--batch", "2")
    results = json.loads(run("validate", "--device", "sim:sim20", *task, "--json"))
    assert results["task"] == "segmentation"
    # The box moves with the brightness, the mask does not.
    assert [m["map"]["estimate"] for m in results["methods"]] == pytest.approx([1] * len(results["methods"]))


class KilledError(Exception):
    pass


def test_a_stopped_training_goes_on_in_its_own_run(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.console.progress import Progress

    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    arguments = ("train", *TASK, "--steps", "12", "--batch", "2", "--seed", "3")
    real = Progress.update

    def stop(self: Progress, done: int, note: str = "") -> None:
        if self.title == "train" and done == 7:
            raise KilledError
        real(self, done, note=note)

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "update", stop)
        with pytest.raises(KilledError):
            run(*arguments)
    assert list_runs(lab, "train") == []
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        # A lab that goes on capturing loses no training.
        Bench(dataset, device, purpose="collect").capture(dataset.raws(Split.TRAIN)[0], device.info().space.defaults)
    steps: list[int] = []

    def record(self: Progress, done: int, note: str = "") -> None:
        if self.title == "train":
            steps.append(done)
        real(self, done, note=note)

    monkeypatch.setattr(Progress, "update", record)
    run(*arguments)
    assert steps[0] == 7
    assert len([p for p in (lab / "runs").iterdir() if p.name.startswith("train")]) == 1
    curve = find_run(lab, "train").results["curve"]
    resumed = load_predictor(find_run(lab, "train").path).network.state_dict()
    run(*arguments, "--name", "undisturbed")
    assert curve == find_run(lab, "train", "undisturbed").results["curve"]
    assert curve[0][0] < 7
    undisturbed = load_predictor(find_run(lab, "train", "undisturbed").path).network.state_dict()
    for name, tensor in undisturbed.items():
        assert torch.equal(tensor, resumed[name]), name


def test_what_is_missing_is_one_clear_line(lab: Path) -> None:
    with pytest.raises(WorkbenchError, match="needs a detector; give --detector"):
        run("train", "--task", "detection", "--annotations", "annotations.json")
    with pytest.raises(WorkbenchError, match="needs the objects to find; give --annotations"):
        run("train", "--task", "detection", "--detector", "x.y:z")
    refused = CliRunner().invoke(APP, ["train", "--detector", "x.y:z"])
    assert refused.exit_code == 2
    refused = CliRunner().invoke(APP, ["train", "--viewing-weight", "3"])
    assert (refused.exit_code, "--viewing-weight: for --task detection" in refused.output) == (2, True)
    refused = CliRunner().invoke(APP, ["train", *TASK, "--viewing-weight", "inf"])
    assert refused.exit_code == 2
    refused = CliRunner().invoke(APP, ["validate", "--device", "sim:sim20", *TASK, "--oracle-captures", "5"])
    assert refused.exit_code == 2
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    annotations(Path("others.json"), ["other.npz"])
    with pytest.raises(
        WorkbenchError, match=r"none of its 1 images is one of the data set's 5 train RAWs, such as 0\."
    ):
        run("train", *TASK[:-1], "others.json")
    annotations(Path("large.json"), side=2 * SIDE)
    with pytest.raises(WorkbenchError, match=r"0\.npz is 128×128 there, its RAW 64×64"):
        run("train", *TASK[:-1], "large.json")
    annotations(Path("strange.json"), category=7)
    with pytest.raises(DetectorError, match="category 7 is unknown to brightness"):
        run("train", *TASK[:-1], "strange.json")
    with pytest.raises(WorkbenchError, match="metric 'psnr' is not one of map50, map, detector-loss"):
        run("tune", "--device", "sim:sim20", *TASK, "--metric", "psnr", "--captures", "16", "--raws-per-trial", "4")
    for choice in (("--method", "proxy-gradient"), ("--rule", "regression")):
        with pytest.raises(WorkbenchError, match=r"for --task detection choose another (method|rule)$"):
            run("tune", "--device", "sim:sim20", *TASK, *choice, "--captures", "40", "--raws-per-trial", "4")
    assert [p.name for p in (lab / "runs").iterdir() if p.name.startswith("tune")] == []


def test_objects_that_nothing_can_find_do_not_count(lab: Path) -> None:
    data = json.loads(Path("annotations.json").read_text())
    whole, right = data["annotations"][0], SIDE - 1
    odd: list[dict[str, object]] = [
        {"bbox": [5, 5, 0, 9], "segmentation": [[5, 5, 5, 14, 5, 9]]},  # a box without area
        {"bbox": [0, 0, SIDE, SIDE], "segmentation": [[0, 0, right, right, 0, 0]]},  # a line
        {"bbox": [0, 0, SIDE, SIDE], "segmentation": {"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}},
    ]
    more = [{**whole, **o, "id": 100 + 9 * i + n, "image_id": n + 1} for i, o in enumerate(odd) for n in range(9)]
    data["annotations"] += more
    Path("annotations.json").write_text(json.dumps(data))
    with Dataset.open(Path("lab")) as dataset:
        for name, count in (("segmentation", 2), ("detection", 6)):
            task = open_task(name, "tests.brightness:make", Path("annotations.json"))  # type: ignore[arg-type]
            raws = task.raws(dataset, Split.TEST)
            assert (len(raws), task.facts(raws)["objects"]) == (2, count)
            assert any("9 boxes have no area and are not counted" in note for note in task.notes)
            masks = [note for note in task.notes if "4 masks have no pixel and are not counted: object 3" in note]
            assert len(masks) == (name == "segmentation")


def test_objects_without_a_mask_are_said_to_be_left_out_of_a_loss_that_needs_masks(lab: Path) -> None:
    data = json.loads(Path("annotations.json").read_text())
    for entry in data["annotations"]:
        del entry["segmentation"]
    Path("annotations.json").write_text(json.dumps(data))
    task = open_task("detection", "tests.brightness:make", Path("annotations.json"))
    with Dataset.open(Path("lab")) as dataset:
        task.raws(dataset, Split.TEST)
    assert any("2 objects without a mask are passed over by the loss of brightness: object 1" in n for n in task.notes)


def test_a_lab_without_test_raws_is_said_so(lab: Path) -> None:
    make_lab(lab.parent / "other", captures=4, test=0)
    arguments = ("validate", "--device", "sim:sim20", "--lab", "other", *TASK)
    with pytest.raises(WorkbenchError, match="the data set has no test RAW; collect a folder with some"):
        run(*arguments)
    assert list((lab.parent / "other" / "runs").iterdir()) == []


def test_the_loss_that_tuning_shows_is_the_one_that_validation_shows(lab: Path) -> None:
    arguments = ("--device", "sim:sim20", *TASK, "--metric", "detector-loss", "--captures", "16")
    told = run("tune", *arguments, "--raws-per-trial", "4", "--name", "by-loss")
    results = find_run(lab, "tune", "by-loss").results
    score = results["score"]
    assert f"(by-loss): log loss {-score:.3f} on" in told
    task = open_task("detection", TASK[3], Path(TASK[5]))
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        raws = [raw for raw in task.raws(dataset, Split.TRAIN) if raw.scene in results["training_scenes"]]
        best = device.info().space.load_toml(lab / "runs" / "by-loss" / "best.toml")
        bench = Bench(dataset, device, purpose="collect")
        losses = [task.judge(raw, bench.capture(raw, best).rgb().pixels).figures["loss"] for raw in raws]
    assert score == pytest.approx(-np.mean(losses))


def test_a_loss_without_gradient_is_refused_before_training(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Brightness, "loss", lambda self, images, targets: images.mean().detach())
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4")
    with pytest.raises(DetectorError, match="not differentiable"):
        run("train", *TASK, "--steps", "2")
    assert list_runs(lab, "train") == []


def test_segmentation_needs_a_detector_that_draws(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Brightness, "masks", False)
    with pytest.raises(WorkbenchError, match="draws no masks"):
        open_task("segmentation", "tests.brightness:make", Path("annotations.json"))


def test_of_large_raws_one_passes_at_a_time_and_no_other_masks_are_held(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = open_task("segmentation", "tests.brightness:make", Path("annotations.json"))
    decoded: list[int] = []
    targets = VisionTask.targets

    def counted(self: VisionTask, raws: Sequence[RawRecord]) -> dict[str, Target]:
        decoded.append(len(raws))
        return targets(self, raws)

    monkeypatch.setattr(VisionTask, "targets", counted)
    with Dataset.open(lab) as dataset:
        training = task.raws(dataset, Split.TRAIN)
        data = VisionData(task, training, task.held_out(dataset), vary=False)
        task.scorer("map50", training)
        assert decoded == []
        whole = data.draw(4, torch.Generator().manual_seed(0))
        monkeypatch.setattr(vision_data, "PART_PIXELS", SIDE * SIDE)
        parts = data.draw(4, torch.Generator().manual_seed(0))
    assert [len(part.planes) for part in whole] == [4]
    assert [len(part.planes) for part in parts] == [1] * 4
    assert torch.equal(torch.cat([part.raw.mosaic for part in parts]), whole[0].raw.mosaic)
    assert decoded == [1] * 8


def test_large_pictures_are_drawn_smaller_where_they_were(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = open_task("detection", "tests.brightness:make", Path("annotations.json"))
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        (raw, *_) = task.raws(dataset, Split.TEST)
        capture = Bench(dataset, device, purpose="collect").capture(raw, device.info().space.defaults)
        rows = [PictureRow(raw, (capture,))]
        whole = task.picture(rows, ["default"])
        monkeypatch.setattr(vision_pictures, "LARGEST_SIDE", SIDE // 4)
        small = task.picture(rows, ["default"])
    assert whole is not None
    assert small is not None
    assert whole.count("<image") == small.count("<image") == 2
    assert len(small) < len(whole) - 4000
    boxes = r'<g id="patch_\d+">\s*<path d="([^"]+)"'
    assert re.findall(boxes, whole) == re.findall(boxes, small)


def test_the_detectors_loss_leads_the_predictor(lab: Path) -> None:
    """What training through the proxy promises: outputs nearer to what the detector wants than at the start."""
    run("fit-proxy", "--base-steps", "60", "--steps", "1", "--width", "4")
    run("train", *TASK, "--steps", "50", "--batch", "4")
    losses = [point[1] for point in find_run(lab, "train").results["curve"]]
    assert np.mean(losses[-2:]) < losses[0] - 0.2
