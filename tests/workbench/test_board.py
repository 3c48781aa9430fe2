"""``workbench export``: the folder predicts what the workbench predicts, and needs ONNX Runtime and numpy alone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer
from onnx import numpy_helper
from sim_lab import make_lab, picture
from typer.testing import CliRunner

from drivers.errors import FrameError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.raw.raw_files import save_npz
from drivers.registry import open_device
from drivers.splits import Split
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.model import Attention, Predictor, PredictorConfig
from predictor.raw_features import STATISTICS
from workbench.board import exporting
from workbench.board.exporting import MODULES, export
from workbench.board.graph import LOGITS, graph_of
from workbench.board.prediction import predict
from workbench.board.runtime import DESCRIPTION, NETWORK, PLANES, TOLD, BoardError, BoardPredictor
from workbench.commands.export import export as export_command
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import new_run
from workbench.learn.base_rule import BaseRule
from workbench.learn.predictors import open_predictor
from workbench.rules.industry import IndustryTable
from workbench.rules.regression import FEATURES, Regression
from workbench.rules.setting import Setting
from workbench.rules.tuned import FixedSet, TunedRule, under


def lively(config: PredictorConfig, seed: int = 0) -> Predictor:
    """A network whose every layer matters, though it was never trained."""
    torch.manual_seed(seed)
    network = Predictor(config).eval()
    for tensor in network.parameters():
        torch.nn.init.normal_(tensor, std=0.1)
    if config.statistics:
        network.standardise(3 * torch.randn(20, config.statistics) - 2)
    return network


@pytest.mark.parametrize("attention", ["multi", "single", "none"])
@pytest.mark.parametrize(
    ("encoders", "metadata", "statistics", "windows", "size"),
    [
        (5, 7, 43, True, (95, 127)),
        (5, 0, 0, False, (64, 96)),
        (3, 0, 43, True, (70, 101)),
        (6, 7, 0, False, (70, 101)),
    ],
)
def test_the_graph_gives_what_the_network_gives(
    attention: Attention, encoders: int, metadata: int, statistics: int, windows: bool, size: tuple[int, int]
) -> None:
    config = PredictorConfig(
        12, 8, metadata, attention=attention, encoders=encoders, statistics=statistics, windows=windows
    )
    network = lively(config)
    session = onnxruntime.InferenceSession(graph_of(network, *size), providers=["CPUExecutionProvider"])
    planes = torch.rand(2, config.channels, *size) - 0.1
    told = 2 * torch.randn(2, config.told) if config.told else None
    given_ = {PLANES: planes.numpy(), **({TOLD: told.numpy()} if told is not None else {})}
    with torch.no_grad():
        wanted = network.logits(planes, told).numpy()
    np.testing.assert_allclose(session.run([LOGITS], given_)[0], wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lab(tmp_path_factory.mktemp("board") / "lab", captures=0, train=4, validation=1, test=0)


@pytest.fixture(scope="module")
def space() -> ParameterSpace:
    with open_device("sim:sim20") as device:
        return device.info().space


def fixed(space: ParameterSpace) -> TunedRule:
    return FixedSet(space.defaults)


def table(space: ParameterSpace) -> TunedRule:
    random = np.random.default_rng(1)
    sets = tuple(space.from_unit(random.uniform(0.2, 0.8, len(space))) for _ in range(3))
    return IndustryTable(space, (100.0, 400.0, 1600.0), sets)


def linear(space: ParameterSpace) -> TunedRule:
    random = np.random.default_rng(2)
    weights = random.normal(0, 0.1, (len(FEATURES), len(space)))
    choices = {p.name: space.defaults.by_name[p.name] for p in space.parameters if p.kind in ("choice", "bool")}
    ones = np.ones(len(FEATURES))
    return Regression(space, 0 * ones, ones, weights, np.full(len(space), 0.5), choices, "as-shot")


def trained(lab: Path, space: ParameterSpace, name: str, rule: tuple[str, TunedRule] | None) -> None:
    """A ``train`` run of a network with metadata and statistics, on top of a rule or of none."""
    run = new_run(lab, "train", name)
    config = PredictorConfig(len(space), 4, LENGTH, on_top=rule is not None, statistics=STATISTICS, windows=True)
    network = lively(config)
    # As training leaves what a setting sets.
    aside = torch.tensor([rule is not None and name == "under-a-setting" and n in ASIDE.names for n in space.names])
    network.hold(aside, torch.zeros(len(space)))
    save_predictor(run.path, network, space, f"isp/1/{space.hash[:12]}", longest=32, mirrored=True)
    if rule is not None:
        base = BaseRule("tuned", *rule)
        base.save(run.path, {"tone": 0.5, "demosaic": 0.0})
        run.update(config={"on_top_of": base.record()})
    run.finish({})


ASIDE = Setting(name="mine", by_rule={"red_gain": {"rule": "as-shot"}, "blue_gain": "as-shot"}, held={"gamma": 2.0})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (None, None),
        ("fixed", fixed),
        ("industry", table),
        ("auto", linear),
        ("industry", lambda space: under(table(space), ASIDE)),
    ],
    ids=["no rule", "fixed", "table", "linear", "under a setting"],
)
def test_a_folder_gives_the_workbenchs_codes(
    lab: Path,
    space: ParameterSpace,
    tmp_path: Path,
    kind: str | None,
    rule: Callable[[ParameterSpace], TunedRule] | None,
    request: pytest.FixtureRequest,
) -> None:
    name = request.node.callspec.id.replace(" ", "-")
    trained(lab, space, name, None if rule is None or kind is None else (kind, rule(space)))
    made = export(lab, tmp_path / "out", predictor=name)
    assert (made.run, made.width, made.height, made.checked) == (name, 64, 64, 4)
    assert (made.other, made.parameters) == (0, 4 * len(space))
    assert made.size < 1_000_000
    assert {*made.left_out} == ({"red_gain", "blue_gain"} if name == "under-a-setting" else set())
    board = BoardPredictor(tmp_path / "out")
    raw = picture(40)[0]
    buffer = raw.mosaic.copy()
    values = board.predict(buffer, raw.metadata)
    buffer[0, 0] = 0  # the camera's next frame
    with pytest.raises(FrameError, match="unknown key 'exposure'; did you mean 'exposure_s'"):
        board.predict(raw.mosaic, raw.metadata | {"exposure": 0.01})
    assert {*values} == {*space.names} - {*made.left_out}
    assert name != "under-a-setting" or values["gamma"] == 2.0
    # It does look at the RAW.
    assert values != board.predict(raw.mosaic // 4 + 48, raw.metadata)


def test_a_folder_runs_by_itself_on_numpy_and_onnx_runtime(lab: Path, space: ParameterSpace, tmp_path: Path) -> None:
    trained(lab, space, "alone", ("industry", table(space)))
    folder = tmp_path / "out"
    export(lab, folder, predictor="alone")
    raw = picture(41)[0]
    np.savez(tmp_path / "raw.npz", mosaic=raw.mosaic, **{k: v for k, v in raw.metadata.items() if v is not None})
    code = f"""
import json, runpy, sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        kept = ("numpy", "onnxruntime", "drivers", "predictor", "workbench")
        if name.split(".")[0] not in (*kept, *sys.stdlib_module_names):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refused())
from workbench.board.runtime import main
status = main([{str(tmp_path / "raw.npz")!r}])
own = [m for m in sys.modules.values() if m.__name__.split(".")[0] in ("drivers", "predictor", "workbench")]
assert all(m.__file__.startswith({str(folder.resolve())!r}) for m in own), [m.__file__ for m in own]
sys.exit(status)
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout)
    with Dataset.open(lab):
        board = BoardPredictor(folder)
    known = ParameterSet(board.space, board.space.parse(alone).codes)
    inside = board.parameters(raw)
    # Without OpenCV the statistics differ in their last digits.
    assert sum(a != b for a, b in zip(known.codes, inside.codes, strict=True)) <= 1
    assert {file.name for file in folder.iterdir()} >= {NETWORK, DESCRIPTION, "README.md", "requirements.txt"}


def test_a_file_that_is_no_raw_is_one_line_beside_the_device(lab: Path, space: ParameterSpace, tmp_path: Path) -> None:
    trained(lab, space, "odd-files", None)
    export(lab, tmp_path / "out", predictor="odd-files")
    raw = picture(42)[0]
    np.save(tmp_path / "array.npy", raw.mosaic)
    np.savez(tmp_path / "no_mosaic.npz", cfa="RGGB")
    np.savez(tmp_path / "flipped.npz", mosaic=raw.mosaic)
    whole = bytearray((tmp_path / "flipped.npz").read_bytes())
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").touch()
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(whole)
    names = ["array.npy", "no_mosaic.npz", "flipped.npz", "short.npz", "empty.npz"]
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c"),
            "import sys; from workbench.board.runtime import main; print([main([name]) for name in sys.argv[1:]])",
            *names,
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "out")},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.stdout == f"{[1] * len(names)}\n", done.stderr
    lines = done.stderr.splitlines()
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"error: {name}: damaged or not an .npz of a RAW frame (")


def test_of_the_raws_to_compare_one_is_in_memory(
    lab: Path, space: ParameterSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(lab, space, "few", None)
    alive: weakref.WeakSet[RawFrame] = weakref.WeakSet()
    load = RawRecord.load

    def counted(raw: RawRecord) -> RawFrame:
        assert len(alive) < 2, "more than the frame before is still in memory"
        frame = load(raw)
        alive.add(frame)
        return frame

    monkeypatch.setattr(RawRecord, "load", counted)
    assert export(lab, tmp_path / "out", predictor="few").checked == 4


def test_the_modules_are_all_that_the_runtime_needs() -> None:
    code = (
        "import sys, workbench.board.runtime, workbench.rules.industry, workbench.rules.regression\n"
        "print(*(m for m in sys.modules if m.split('.')[0] in ('drivers', 'predictor', 'workbench')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120, check=True)
    assert {*done.stdout.split()} - {"workbench"} <= {*MODULES}


def command(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(export_command)
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_a_folder_that_another_program_wrote_meanwhile_stays(
    lab: Path, space: ParameterSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(lab, space, "twice", None)
    compare, folder = exporting._compare, tmp_path / "board"

    def meanwhile(*arguments: Any) -> tuple[int, int]:
        folder.mkdir()
        (folder / "own.txt").write_text("of another", encoding="utf-8")
        return compare(*arguments)

    monkeypatch.setattr(exporting, "_compare", meanwhile)
    with pytest.raises(RunError, match="another program wrote it meanwhile; give a new folder"):
        exporting.export(lab, folder, predictor="twice")
    assert [file.name for file in folder.iterdir()] == ["own.txt"]


def test_a_full_disk_is_told_of_the_file_that_was_to_be_written(
    lab: Path, space: ParameterSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(lab, space, "full", None)
    to_disk = os.fsync

    def full(handle: int) -> None:
        if list(tmp_path.glob("*/made/drivers")):  # the network is there, the modules are to come
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        to_disk(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as told:
        exporting.export(lab, tmp_path / "board", predictor="full")
    assert str(tmp_path) in str(told.value.filename)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_and_says_what_is_wrong_in_one_line(
    lab: Path, space: ParameterSpace, tmp_path: Path
) -> None:
    trained(lab, space, "shown", None)
    here = ["shown", "--lab", str(lab), "--out"]
    code, text = command(*here, str(tmp_path / "a"))
    assert code == 0
    assert "run by itself on 4 RAWs: 0 of 80 codes are other than the workbench's" in text
    code, text = command(*here, str(tmp_path / "b"), "--size", "128x96", "--json")
    assert json.loads(text)["checked"] == 0
    assert command(*here, str(tmp_path / "c"), "--size", "wide")[0] == 2
    with pytest.raises(RunError, match="is there already; give a new folder"):
        command(*here, str(tmp_path / "a"))
    with pytest.raises(RunError, match="--size 63x64: both must be even"):
        command(*here, str(tmp_path / "c"), "--size", "63x64")
    with pytest.raises(BoardError, match=r"the RAW has 64×64 pixels, the predictor was exported for 128×96; run"):
        BoardPredictor(tmp_path / "b").parameters(picture(1)[0])
    (tmp_path / "b" / NETWORK).write_bytes(b"nothing")
    with pytest.raises(BoardError, match=f"{NETWORK}: cannot be read"):
        BoardPredictor(tmp_path / "b")
    (tmp_path / "b" / DESCRIPTION).write_text("{}", encoding="utf-8")
    with pytest.raises(BoardError, match="holds no exported predictor"):
        BoardPredictor(tmp_path / "b")
    with pytest.raises(RunError, match=r"--size 64x32770: both must be even and within 2\.\.32768"):
        command(*here, str(tmp_path / "c"), "--size", "64x32770")
    assert not (tmp_path / "c").exists()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert command(*here, str(tmp_path / "link"))[0] == 0
    assert (tmp_path / "empty" / NETWORK).is_file()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_the_network_alone_and_what_folders_are_called(
    lab: Path, space: ParameterSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(lab, space, "named", ("industry", table(space)))
    monkeypatch.chdir(tmp_path)
    here = ("named", "--lab", str(lab))
    code, text = command(*here, "--onnx")
    assert code == 0
    assert "run here on 4 RAWs: 0 of 80 codes are other than the workbench's" in text
    assert {file.name for file in Path("named-onnx").iterdir()} == {NETWORK, DESCRIPTION}
    command(*here, "--onnx", "--int8")
    command(*here)
    assert Path("named-onnx-int8", DESCRIPTION).is_file()
    raw = picture(45)[0]
    assert BoardPredictor("named-onnx").parameters(raw) == BoardPredictor("named-board").parameters(raw)
    with pytest.raises(RunError, match="nobody"):
        command("nobody", "--lab", str(lab))


def test_a_machine_that_is_too_busy_to_try_the_folder_is_told(
    lab: Path, space: ParameterSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(lab, space, "slow", None)
    monkeypatch.setattr(exporting, "_DEADLINE_S", 0.01)
    with pytest.raises(RunError, match="has not given the parameters of one RAW after 0 s: the machine is too busy"):
        export(lab, tmp_path / "out", predictor="slow")
    assert not (tmp_path / "out").exists()


def test_in_8_bits_it_is_smaller_and_says_nearly_the_same(lab: Path, space: ParameterSpace, tmp_path: Path) -> None:
    trained(lab, space, "eight", ("industry", table(space)))
    whole = export(lab, tmp_path / "whole", predictor="eight")
    small = export(lab, tmp_path / "small", predictor="eight", int8=True)
    assert (tmp_path / "small" / NETWORK).stat().st_size < (tmp_path / "whole" / NETWORK).stat().st_size
    assert (whole.other, small.parameters) == (0, whole.parameters)
    raw = picture(43)[0]
    one, other = (BoardPredictor(tmp_path / n).parameters(raw).unit for n in ("whole", "small"))
    assert 0 < np.abs(one - other).max() < 0.1
    with pytest.raises(RunError, match="no RAW of 128x64 to take the ranges of 8-bit features from"):
        export(lab, tmp_path / "none", predictor="eight", size=(128, 64), int8=True)


def test_in_8_bits_what_training_held_stays_to_the_code(lab: Path, space: ParameterSpace, tmp_path: Path) -> None:
    run = new_run(lab, "train", "still")
    network = lively(PredictorConfig(len(space), 4, LENGTH))
    held = torch.arange(len(space)) % 2 == 0
    network.hold(held, torch.linspace(-3, 2, len(space)))
    save_predictor(run.path, network, space, f"isp/1/{space.hash[:12]}", longest=32, mirrored=True)
    run.finish({})
    made = export(lab, tmp_path / "small", predictor="still", int8=True)
    board, loaded = BoardPredictor(tmp_path / "small"), open_predictor(run)
    for seed in range(4):
        raw = picture(50 + seed)[0]
        codes, wanted = board.parameters(raw).codes, loaded.predict([raw])[0].codes
        assert [c for c, still in zip(codes, held, strict=True) if still] == [
            c for c, still in zip(wanted, held, strict=True) if still
        ]
    assert 0 < made.other <= made.parameters // 2


def test_in_8_bits_every_processor_computes_what_the_graph_says(
    lab: Path, space: ParameterSpace, tmp_path: Path
) -> None:
    """Where products of bytes are added in 16 bits, as by AVX2, weights of 8 bits overflow without a word."""
    trained(lab, space, "bright", None)
    export(lab, tmp_path / "small", predictor="bright", int8=True)
    board = BoardPredictor(tmp_path / "small")
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # each step in float32
    network = (tmp_path / "small" / NETWORK).read_bytes()
    session = onnxruntime.InferenceSession(network, plain, providers=["CPUExecutionProvider"])
    inputs = board.inputs(RawFrame(np.full((64, 64), 4095, np.uint16), "RGGB", (64.0,) * 4, 4095, iso=100))
    (said,) = board._session.run([LOGITS], inputs)
    (meant,) = session.run([LOGITS], inputs)
    assert np.ptp(meant) > 1
    np.testing.assert_allclose(said, meant, atol=0.01)
    weights = [numpy_helper.to_array(t) for t in onnx.load_from_string(network).graph.initializer]
    largest = [np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8 and w.ndim == 4]
    assert largest
    assert 2 * 255 * max(largest) < 2**15


def test_raws_of_several_sizes_ask_for_one(space: ParameterSpace, tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=0, train=1, validation=1, test=0)
    trained(lab, space, "any", None)
    raw, _ = picture(5)
    wide: Any = RawFrame(raw.mosaic[:32].copy(), "RGGB", (64.0,) * 4, 4095)
    with Dataset.open(lab) as dataset:
        dataset.add_raw(wide, scene="wide", split=Split.TRAIN, name="wide.npz", reference=None)
    with pytest.raises(RunError, match=r"RAWs of 64x64 \(2\), 64x32 \(1\); say with --size"):
        export(lab, tmp_path / "out")
    assert export(lab, tmp_path / "out", size=(64, 32)).checked == 1


@pytest.mark.parametrize("under_setting", [False, True], ids=["no rule", "table under a setting"])
def test_a_second_prediction_of_that_size_is_the_same_and_needs_no_torch(
    lab: Path, space: ParameterSpace, tmp_path: Path, under_setting: bool
) -> None:
    name = f"kept-{under_setting}"
    trained(lab, space, name, ("industry", under(table(space), ASIDE)) if under_setting else None)
    raw = picture(44)[0]
    save_npz(tmp_path / "raw.npz", raw)
    first = predict(lab, tmp_path / "raw.npz", predictor=name)
    loaded = open_predictor(first.run)
    assert first.parameters.codes == loaded.predict([raw])[0].codes
    assert (first.width, first.height, first.metadata) == (32, 32, True)
    assert first.gflop == loaded.network.gflop(32, 32)
    code = (
        "import sys\nfrom pathlib import Path\nfrom workbench.board.prediction import predict\n"
        f"found = predict(Path({str(lab)!r}), Path({str(tmp_path / 'raw.npz')!r}), predictor={name!r})\n"
        "print([m for m in ('torch', 'sqlalchemy', 'onnx') if m in sys.modules], list(found.parameters.codes))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert again.stdout.split("] ")[0] == "[", again.stderr
    assert json.loads(again.stdout.split("] ")[1]) == list(first.parameters.codes)
    # A damaged graph is made anew, and so is one of other weights.
    graph = first.run.path / "graphs" / "64x64" / "predictor.onnx"
    whole = graph.read_bytes()
    middle = len(whole) // 2
    graph.write_bytes(whole[:middle] + bytes(255 - b for b in whole[middle : middle + 400]) + whole[middle + 400 :])
    assert predict(lab, tmp_path / "raw.npz", predictor=name).parameters.codes == first.parameters.codes
    assert graph.read_bytes() == whole
    torch.manual_seed(1)
    network = Predictor(PredictorConfig(len(space), 4, LENGTH, on_top=under_setting)).eval()
    torch.nn.init.normal_(network.local.weight, std=2.0)
    save_predictor(first.run.path, network, space, loaded.device_identity, longest=32)
    other = predict(lab, tmp_path / "raw.npz", predictor=name).parameters
    assert other.codes == open_predictor(first.run).predict([raw])[0].codes != first.parameters.codes
