from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import typer
from browser import browse
from small_isp import SPACE, SmallIsp, make_lab
from typer.testing import CliRunner

from drivers.splits import Split
from predictor.files import save_predictor
from predictor.metadata import LENGTH
from predictor.model import Predictor, PredictorConfig
from workbench.collect.bench import Bench
from workbench.commands.report import report
from workbench.draw import images
from workbench.errors import RunError
from workbench.judge.methods import MethodKind, ValidationSettings
from workbench.judge.results import ProxyGap
from workbench.judge.statistics import Interval
from workbench.judge.validation import validate_run
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, find_run, new_run, write_json
from workbench.report import pictures, write_report
from workbench.report.material import read_material
from workbench.report.pictures import chosen_raws
from workbench.report.words import interval_text, number
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")
LOSS = {"moves": 20, "psnr_change": 1.237, "psnr_rank": 0.731, "ssim_rank": None}
FIDELITY = {
    "parameters": [
        {"parameter": n, "block": b, "device_change": 3.0, "cosine": 0.91, "gain": None, "psnr": 31.0, "ssim": 0.9}
        | ({"loss": LOSS} if n == "blur" else {})
        for b, names in SPACE.blocks.items()
        for n in names
    ],
    "blocks": {b: {"device_change": 3.0, "cosine": 0.9, "gain": 0.8, "psnr": 31.5, "ssim": 0.95} for b in SPACE.blocks},
    "rank_correlation": 0.87,
    "rank_sets": 24,
    "rank_raws": 6,
    "around": "table",
    "loss_raws": 5,
    "loss_split": "validation",
}


class Reader(HTMLParser):
    """Collects what a page refers to, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.images: dict[str, str] = {}
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {k: v or "" for k, v in attrs}
        self.references += [v for k, v in values.items() if k in ("src", "href", "xlink:href", "action", "poster")]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.images[values["alt"]] = values["src"]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with every kind of run; its predictors are untrained."""
    lab = tmp_path_factory.mktemp("report") / "lab"
    make_lab(lab)
    with Dataset.open(lab) as dataset:
        raws = dataset.raws(Split.TRAIN)
        bench = Bench(dataset, SmallIsp(), purpose="collect")
        list(bench.capture_many((r, SPACE.defaults.replace(blur=b)) for r in raws for b in range(2)))
        for industry in (False, True):
            tune_run(lab, dataset, SmallIsp(), TuneSettings("cmaes", captures=60, raws_per_trial=3), industry=industry)
        for name, length in (("with", LENGTH), ("without", 0)):
            run = new_run(lab, "train", name)
            save_predictor(run.path, Predictor(PredictorConfig(len(SPACE), 4, length)), SPACE, "small/1")
            run.update(config={"metadata": bool(length), "proxy": "proxy", "identity": SmallIsp().info().identity})
            run.finish({"curve": [[10, 0.2, None], [20, 0.1, 0.12], [30, 0.09, 0.11]], "held_out_loss": 0.11})
        settings = ValidationSettings(oracle_captures=12)
        run, results = validate_run(lab, dataset, SmallIsp(), settings, name="final")
    interval = Interval(estimate=0.5, low=0.1, high=0.9, clusters=8, samples=8)
    gap = ProxyGap(run="proxy", psnr_to_device=29.13, promised=27.0, given=26.5, promised_minus_given=interval)
    results.model_copy(update={"proxy": gap}).write(run.path / "results.json")
    known = {"captures": 12, "psnr": 28.7, "psnr_median": 28.8, "psnr_p5": 22.2}
    proxy = new_run(lab, "fit-proxy", "proxy")
    proxy.update(seed=7)
    proxy.finish(
        {"curve": [[20, -3.0], [40, -5.0]], "captures": 24, "new_sets_known_raws": known, "fidelity": FIDELITY}
    )
    return lab


@pytest.fixture(scope="module")
def written(full: Path) -> Path:
    return write_report(full)


@pytest.fixture(scope="module")
def page(written: Path) -> tuple[str, Reader]:
    html = written.read_text(encoding="utf-8")
    return html, Reader(html)


def copy(lab: Path, where: Path) -> Path:
    return Path(shutil.copytree(lab, where / "lab"))


def changed(lab: Path, **fields: Any) -> Path:
    file = find_run(lab, "validate").path / "results.json"
    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), **fields})
    return lab


def test_the_page_needs_nothing_else(page: tuple[str, Reader], full: Path) -> None:
    html, read = page
    assert read.references
    assert all(r.startswith(("data:image/", "#")) for r in read.references)
    assert not {"link", "iframe", "object", "base", "form"} & set(read.tags)
    assert read.tags.count("script") == html.count("<script>") == 1
    assert "default-src 'none'; img-src data:;" in html
    assert not re.search(r"@import|url\((?!#)", html)
    assert str(full) not in html
    assert not list(full.glob(".report*"))


def test_every_figure_is_well_formed_and_has_its_own_ids(page: tuple[str, Reader]) -> None:
    html, read = page
    found = re.findall(r"<svg\b.*?</svg>", html, re.DOTALL)
    labels = [ElementTree.fromstring(svg).attrib["aria-label"] for svg in found]
    assert labels == [
        "Mean PSNR of every method",
        "Gain over best fixed, RAW by RAW",
        "How the gains are distributed",
        "The per-image oracle's search",
        "Result against captures spent",
        *(
            f"Gain by block in {metric}, {pair}"
            for pair in ("industry → predicted", "predicted → oracle")
            for metric in ("PSNR", "SSIM")
        ),
        "blur against ISO",
        "What was predicted over the test RAWs",
        "Training of the proxy",
        "Training of the predictors",
    ]
    assert len(read.ids) == len(set(read.ids))
    assert {r[1:] for r in read.references if r.startswith("#")} <= set(read.ids)


def test_the_headline_and_the_tables_hold_the_results(page: tuple[str, Reader], full: Path) -> None:
    _, read = page
    found = read_material(full)
    about, headline = found.results.about, found.results.headline
    assert about is not None
    assert headline is not None
    assert headline.gap_closed is not None
    closed = headline.gap_closed.estimate
    assert closed is not None
    gain = about.over[MethodKind.fixed]["psnr"]
    for method in found.results.methods:
        assert method.label in read.text
        assert f"{method.figures['psnr'].estimate:.2f}" in read.text
    assert number(gain.estimate, "+.2f") in read.text
    assert number(100 * closed, ".0f") in read.text
    words = {"better": "shown to be better", "worse": "shown to be worse", "not shown": "no difference shown"}
    assert words[gain.verdict] in read.text
    for piece in (
        "29.13 dB from the device",
        "0.87",
        "28.70",
        "22.20",
        "white balance",
        "31.50",
        "0.91",
        "1.24",
        "0.73",
    ):
        assert piece in read.text
    assert (
        "No parameter is drawn for sharpening: none of the device's blocks (white_balance, gain, noise, tone)"
        in read.text
    )
    assert "has no parameter" not in read.text


def test_every_figure_names_its_source(page: tuple[str, Reader], full: Path) -> None:
    html, read = page
    digest = str(find_run(full, "validate").record.dataset_digest)[:12]
    assert f"Run final · data set {digest} · seed 0 · device small, unit unit 1, firmware 1" in read.text
    assert "Run proxy · data set – · seed 7" in read.text
    # A training run names only the identity of its device; the validation knows the rest.
    assert re.search(r"Run with · data set – · seed – · device small, firmware 1 ·", read.text)
    drawings = re.findall(r"<figure>\s*<svg.*?</figure>", html, re.DOTALL)
    assert drawings
    training = next(d for d in drawings if "Training of the predictors</b>" in d)
    assert "Run with ·" in training
    assert "Run without ·" in training
    assert all('class="source"' in d and 'class="badge' in d for d in drawings)


def test_the_pictures_are_the_devices_own_bytes(page: tuple[str, Reader], full: Path) -> None:
    _, read = page
    found = read_material(full)
    shown = [found.results.per_raw[i] for _, i in chosen_raws(found)]
    assert len(shown) == 5
    with Dataset.open(full) as dataset:
        outputs = {c.output_hash: c.rgb().encoded for c in dataset.captures()}
        references = {r.name: r.reference() for r in dataset.raws(Split.TEST)}
    for row in shown:
        for key, label in (("default", "default"), ("fixed", "best fixed"), ("oracle", "oracle")):
            data = base64.b64decode(read.images[f"{row.name}: {label}"].partition(",")[2])
            assert data == outputs[row.methods[key].output_hash]
            assert f"{row.methods[key].figures['psnr']:.2f} dB" in read.text
        data = base64.b64decode(read.images[f"{row.name}: reference"].partition(",")[2])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        reference = references[row.name]
        assert image is not None
        assert reference is not None
        assert np.array_equal(image[..., ::-1], reference)
        assert f"{row.name}: RAW, grey-world" in read.images


def test_best_and_worst_raw_are_shown_and_named(full: Path) -> None:
    found = read_material(full)
    gains = found.gains()
    assert gains is not None
    chosen = chosen_raws(found)
    assert gains[chosen[0][1]] == gains.max()
    assert gains[chosen[-1][1]] == gains.min()
    assert chosen[0][0] == f"best gain over best fixed ({number(float(gains.max()), '+.2f')} dB)"
    assert chosen[2][0].startswith("median gain")


def test_the_same_lab_gives_the_same_report(page: tuple[str, Reader], full: Path, tmp_path: Path) -> None:
    again = write_report(full, out=tmp_path / "again.html").read_text(encoding="utf-8")
    made = re.compile(r"Made [\d: -]+ UTC")
    assert made.sub("", again) == made.sub("", page[0])


@pytest.mark.usefixtures("undrawn")
def test_the_csv_holds_the_table(full: Path, tmp_path: Path) -> None:
    out = write_report(full, validation="final", out=tmp_path / "deep" / "r.html")
    rows = list(csv.DictReader(out.with_suffix(".csv").open(encoding="utf-8", newline="")))
    methods = read_material(full).results.methods
    assert [r["key"] for r in rows] == [m.key for m in methods]
    assert [float(r["psnr_db"]) for r in rows] == [m.figures["psnr"].estimate for m in methods]
    fixed = next(r for r in rows if r["key"] == "fixed")
    assert fixed["gain_over_fixed_db"] == ""
    results = read_material(full).results
    raws = list(csv.DictReader((tmp_path / "deep" / "r-raws.csv").open(encoding="utf-8", newline="")))
    assert [float(r["psnr_db"]) for r in raws if r["key"] == "oracle"] == [
        row.methods["oracle"].figures["psnr"] for row in results.per_raw
    ]
    assert len(raws) == len(results.per_raw) * len(methods)


def test_a_bare_validation_leaves_sections_out(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    make_lab(lab, train=1, test=2)
    with Dataset.open(lab) as dataset:
        validate_run(lab, dataset, SmallIsp(), ValidationSettings(oracle_captures=0))
    read = Reader(write_report(lab).read_text(encoding="utf-8"))
    for line in (
        "so there is no headline",
        "Gains need a predictor and a best fixed set.",
        "No per-image oracle in this validation",
        "No history of a tuning run.",
        "No fit-proxy run in this lab.",
        "No training curve of a predictor.",
        "No predictor to look into.",
        "no predictor for this device: run workbench train",
    ):
        assert line in read.text
    assert read.tags.count("svg") == 1
    assert any(alt.endswith(": default") for alt in read.images)


@pytest.mark.usefixtures("undrawn")
def test_lost_runs_and_weights_leave_a_line(full: Path, tmp_path: Path) -> None:
    lab = copy(full, tmp_path)
    shutil.rmtree(lab / "runs" / "without")
    for file in (lab / "runs" / "with").glob("*.safetensors"):
        file.write_bytes(b"damaged")
    text = Reader(write_report(lab).read_text(encoding="utf-8")).text
    assert "The train run without is not in this lab any more" in text
    assert "The attention maps cannot be drawn" in text


@pytest.mark.usefixtures("undrawn")
def test_without_the_data_set_the_figures_remain(full: Path, tmp_path: Path) -> None:
    lab = copy(full, tmp_path)
    (lab / "dataset.sqlite").unlink()
    read = Reader(write_report(lab).read_text(encoding="utf-8"))
    assert "The data set cannot be opened" in read.text
    assert not read.images
    assert read.tags.count("svg") == 13


@pytest.mark.usefixtures("undrawn")
def test_a_capture_that_is_lost_is_said_so(full: Path, tmp_path: Path) -> None:
    lab = copy(full, tmp_path)
    found = read_material(lab)
    row = found.results.per_raw[chosen_raws(found)[0][1]]
    (file,) = lab.glob(f"blobs/**/{row.methods['oracle'].output_hash}*")
    file.unlink()
    read = Reader(write_report(lab).read_text(encoding="utf-8"))
    assert f"{row.name}: oracle" not in read.images
    assert "cannot be read" in read.text


def test_names_are_escaped(full: Path, tmp_path: Path) -> None:
    lab = copy(full, tmp_path)
    results = read_material(lab).results.to_json()
    nasty = '<script>alert("1")</script> $x^2$ & <b>'
    changed(lab, notes=[nasty], device={**results["device"], "model": nasty})
    results["methods"][0]["label"] = nasty
    changed(lab, methods=results["methods"])
    html = write_report(lab).read_text(encoding="utf-8")
    assert nasty in Reader(html).text
    assert html.count("<script") == 1
    assert nasty not in html
    assert "<b>" in html
    for svg in re.findall(r"<svg\b.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)


def test_without_a_validation_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished validate run there; run `workbench validate` first"):
        write_report(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"space": 1}'])
def test_damaged_results_are_one_clear_line(full: Path, tmp_path: Path, text: str) -> None:
    lab = copy(full, tmp_path)
    (lab / "runs" / "final" / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"results.json: cannot be read as a validation .*again$"):
        write_report(lab)


@pytest.mark.parametrize(
    "damage",
    [
        lambda results: results["methods"][1]["figures"].pop("ssim"),
        lambda results: results["methods"][1]["figures"]["psnr"].update(estimate="high"),
        lambda results: results["per_raw"][0].pop("scene"),
        lambda results: results["per_raw"][0]["methods"]["default"]["figures"].pop("ssim"),
        lambda results: results["per_raw"][0]["methods"].pop("default"),
        lambda results: results["headline"].update(method="predicted:gone"),
        lambda results: results["device"].pop("identity"),
    ],
)
def test_results_that_lack_a_part_are_one_clear_line(
    full: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], object]
) -> None:
    lab = copy(full, tmp_path)
    file = lab / "runs" / "final" / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    damage(results)
    write_json(file, results)
    with pytest.raises(RunError, match=r"results.json: cannot be read as a validation .*again$"):
        write_report(lab)


def test_the_proxy_of_another_device_is_not_shown(full: Path, tmp_path: Path) -> None:
    lab = changed(copy(full, tmp_path), proxy=None)
    assert read_material(lab).proxy is None
    identity = json.loads((lab / "runs" / "final" / "results.json").read_text())["device"]["identity"]
    run = RunFolder.open(lab / "runs" / "proxy")
    run.update(config={"identity": identity})
    proxy = read_material(lab).proxy
    assert proxy is not None
    assert proxy.name == "proxy"


@pytest.mark.usefixtures("undrawn")
def test_a_place_that_cannot_be_written_is_one_clear_line(full: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="the report cannot be written"):
        write_report(full, out=tmp_path / "file" / "report.html")
    record = full / "runs" / "final" / "results.json"
    before = record.read_bytes()
    for out in (tmp_path / "report.csv", record):
        with pytest.raises(RunError, match="is no name of a page"):
            write_report(full, out=out)
    assert record.read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_the_command_prints_the_path(full: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    out = tmp_path / "r.html"
    done = CliRunner().invoke(app, ["--lab", str(full), "--validation", "final", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_window_is_where_the_detail_is() -> None:
    image = np.full((200, 300, 3), 128, np.uint8)
    image[120:180, 200:260] = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    window = images.detailed_window(image, 64)
    assert window.of(image).shape == (64, 64, 3)
    assert abs(window.top - 118) <= 8
    assert abs(window.left - 198) <= 8
    assert images.detailed_window(image[:40, :40], 64) == images.Window(0, 0, 40, 40)


def test_an_even_map_is_not_stretched_into_a_finding() -> None:
    preview = np.full((32, 32, 3), 100, np.uint8)
    even, most = images.attention_overlay(preview, np.full((8, 8), 1 / 64))
    assert most == pytest.approx(1)
    assert even.std(axis=(0, 1)).max() == 0
    peak = np.full((8, 8), 0.5 / 63)
    peak[1, 6] = 0.5
    overlay, most = images.attention_overlay(preview, peak)
    assert most == pytest.approx(32)
    bright = np.unravel_index(overlay.sum(axis=2).argmax(), (32, 32))
    assert bright[0] // 4 == 1
    assert bright[1] // 4 == 6


def test_numbers_for_people() -> None:
    assert number(None) == number(float("nan")) == "–"
    assert number(-1.234, "+.1f") == "−1.2"
    assert interval_text(None) == ""
    known = Interval(estimate=0.1, low=-0.5, high=1.0, clusters=9, samples=9)
    assert interval_text(known.model_copy(update={"low": None})) == "too few scenes"
    assert interval_text(known, ".0f", 100) == "−50 … 100"


def with_script(page: Path, script: str, out: Path) -> Path:
    """The page with a script at its end, whose outcome it writes into the title."""
    html = page.read_text(encoding="utf-8")
    out.write_text(html.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return out


def test_a_browser_shows_it_without_complaint(written: Path, tmp_path: Path) -> None:
    # A browser's own window has a least width, a frame has none. Wider than its frame is what a phone cuts off.
    script = "parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')"
    page = with_script(written, script, tmp_path / "framed.html")
    frames = "".join(f'<iframe src="{page.name}" width="{w}" height="900"></iframe>' for w in (1280, 900, 390))
    heard = "const all = []; onmessage = (e) => { all.push(e.data); document.title = JSON.stringify(all); }"
    outer = tmp_path / "outer.html"
    outer.write_text(f"<title></title><script>{heard}</script>{frames}", encoding="utf-8")
    dom, console = browse(outer, tmp_path, "--virtual-time-budget=20000", "--dump-dom")
    assert not console
    widths = json.loads(re.findall(r"<title>(.*?)</title>", dom)[0])
    assert sorted(inner for inner, _ in widths) == [390, 900, 1280]
    assert all(needed <= inner for inner, needed in widths)
    picture = tmp_path / "page.png"
    browse(written, tmp_path, "--window-size=900,1500", f"--screenshot={picture}")
    shot = cv2.imread(str(picture))
    assert shot is not None
    assert shot.shape == (1500, 900, 3)
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 200


def test_the_viewer_wipes_and_flickers_by_keyboard_and_pointer(full: Path, written: Path, tmp_path: Path) -> None:
    script = """
    const part = (name) => document.querySelector(`#viewer [data-part="${name}"]`);
    const frame = part("frame"), stage = part("stage"), said = {};
    const at = () => frame.style.getPropertyValue("--at");
    const key = (k) => stage.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true, cancelable: true }));
    const drawn = (side) => getComputedStyle(frame.querySelector(`.half.${side}`)).display;
    const choose = (name, value) => { part(name).value = value; part(name).dispatchEvent(new Event("change")); };
    addEventListener("load", async () => {
      said.hidden = document.getElementById("viewer").hidden;
      said.raws = part("raw").options.length;
      said.choices = [...part("left-choice").options].map((o) => o.textContent);
      said.first = [part("left-choice").value, part("right-choice").value, part("left-image").alt];
      said.start = at();
      key("ArrowRight"); said.right = at();
      key("Home"); said.home = at();
      const box = frame.getBoundingClientRect();
      const touch = { pointerType: "touch", pointerId: 1, clientX: box.left + box.width / 4 };
      frame.dispatchEvent(new PointerEvent("pointerdown", touch));
      said.touched = Math.round(parseFloat(at()));
      part("at").value = "75"; part("at").dispatchEvent(new Event("input")); said.slid = at();
      choose("raw", "1"); choose("left-choice", "oracle"); choose("right-choice", "reference");
      await part("right-image").decode();
      const row = document.querySelectorAll(".row[data-raw]")[1];
      said.same = ["oracle", "reference"].map((m, i) =>
        row.querySelector(`[data-method=${m}]`).src === part(i ? "right-image" : "left-image").src);
      choose("zoom", "4");
      said.size = [part("right-image").naturalWidth, frame.getBoundingClientRect().width * devicePixelRatio];
      said.wiped = [drawn("left"), drawn("right")];
      const flicker = document.querySelector("input[value=flicker]");
      flicker.checked = true; flicker.dispatchEvent(new Event("change"));
      said.flicker = [drawn("left"), drawn("right")];
      key(" "); said.other = [drawn("left"), drawn("right")];
      document.title = JSON.stringify(said);
    });
    """.replace("\n", " ")
    page = with_script(written, script, tmp_path / "viewer.html")
    dom, console = browse(page, tmp_path, "--window-size=900,1200", "--virtual-time-budget=20000", "--dump-dom")
    assert not console
    said = json.loads(unescape(re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)[0]))
    found = read_material(full)
    assert not said["hidden"]
    assert said["raws"] == len(chosen_raws(found)) == 5
    assert said["choices"][:3] == ["reference", "default", "best fixed"]
    assert not any(label.startswith("mean") for label in said["choices"])
    first = found.results.per_raw[chosen_raws(found)[0][1]].name
    assert said["first"] == ["fixed", "predicted:with", f"{first}: best fixed"]
    assert (said["start"], said["right"], said["home"], said["slid"]) == ("50%", "52%", "0%", "75%")
    assert said["touched"] == 25
    assert said["same"] == [True, True]
    assert said["size"] == [16, 64]
    assert said["wiped"] == ["block", "block"]
    assert said["flicker"] == ["none", "block"]
    assert said["other"] == ["block", "none"]


@pytest.mark.usefixtures("undrawn")
def test_whole_outputs_of_large_frames_are_in_the_file_as_far_as_there_is_room(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A window smaller than the frames stands for frames larger than the window.
    monkeypatch.setattr(images, "detailed_window", lambda image: images.Window(4, 4, 8, 8))
    html = write_report(full, out=tmp_path / "r.html").read_text(encoding="utf-8")
    whole = re.findall(r'<img src="(data:[^"]*)" alt="([^"]*)"[^>]*data-full="(data:[^"]+)"', html)
    found = read_material(full)
    row = found.results.per_raw[chosen_raws(found)[0][1]]
    with Dataset.open(full) as dataset:
        outputs = {c.output_hash: c.rgb().encoded for c in dataset.captures()}
    crop, _, data = next(item for item in whole if item[1] == f"{row.name}: best fixed")
    assert base64.b64decode(data.partition(",")[2]) == outputs[row.methods["fixed"].output_hash]
    small = cv2.imdecode(np.frombuffer(base64.b64decode(crop.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (8, 8, 3)
    assert len(whole) == 5 * 7
    monkeypatch.setattr(pictures, "WHOLE_BYTES", sum(len(item[2]) for item in whole) // 3)
    less = write_report(full, out=tmp_path / "r.html").read_text(encoding="utf-8")
    kept = re.findall(r'alt="([^"]*)"[^>]*data-full="data:', less)
    assert 5 <= len(kept) < len(whole)
    assert sum("predicted (image + metadata)" in alt for alt in kept) == 5


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("held", [["blur"], ["blur", "curve"], list(SPACE.names)])
def test_the_report_says_what_is_held(full: Path, tmp_path: Path, held: list[str]) -> None:
    lab = copy(full, tmp_path)
    about = read_material(lab).results.about
    assert about is not None
    run = find_run(lab, "train", about.run)
    run.update(config={**run.config, "held": held})
    read = Reader(write_report(lab).read_text(encoding="utf-8"))
    assert f"{len(held)} of 6 parameters held at their start values" in read.text
    assert "The prediction is held at its start value" in read.text
    assert "has no parameter" not in read.text
    if len(held) == len(SPACE):
        assert "Every parameter is held at its start value, so there is no attention to show." in read.text
    else:
        shown = [alt for alt in read.images if "blur" in alt]
        assert not shown
