"""What the documents say is what the code does: files load, commands exist, defaults are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from drivers.frames import RawFrame
from drivers.raw.headerless import load_headerless
from drivers.raw.raw_files import save_npz
from drivers.raw.sidecar import Sidecar
from drivers.registry import open_device
from predictor.training import fast_recipe, paper_recipe
from proxy.training import ProxyRecipe
from workbench import commands
from workbench.cli import _every_command
from workbench.collect.raw_folder import _COLUMNS, read_raw_folder
from workbench.collect.reference_isp import load_settings
from workbench.lab.lab_config import LabConfig, Network, load_lab_config
from workbench.learn.held import FOLLOWED
from workbench.rules.setting import RULES, load_setting
from workbench.tasks.coco_file import read_coco

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
WORDS = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
PAGES = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]
APP = typer.Typer(rich_markup_mode=None)
APP.callback()(_every_command)
commands.register(APP)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def block(begin: str, language: str = "toml") -> str:
    return next(b for b in blocks(FILES, language) if b.startswith(begin))


def section(title: str) -> str:
    return FILES.split(f"## `{title}`", 1)[1].split("\n## ", 1)[0]


# ---- files


def test_the_lab_file_loads(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(block("# lab.toml"))
    config = load_lab_config(tmp_path)
    assert set(config.devices) == {"left", "right", "soft"}
    assert config.network.plain == ("192.0.2.9",)
    assert all(key in section("lab.toml") for key in (*LabConfig.model_fields, *Network.model_fields))


def test_the_expert_file_loads(tmp_path: Path) -> None:
    (tmp_path / "expert.toml").write_text(block("# expert.toml"))
    with open_device("sim:sim20") as device:
        space = device.info().space
    expert = space.load_toml(tmp_path / "expert.toml")
    assert expert.hash != space.defaults.hash
    assert expert["demosaic"] == "malvar"


def test_the_settings_over_iso_load(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(block("# settings.toml"))
    with open_device("sim:sim20") as device:
        table = load_settings(tmp_path / "settings.toml", device.info().space)
    assert table.knots == (100.0, 6400.0)
    assert [s["luma_nr_radius"] for s in table.sets] == [1, 2]


def test_the_setting_loads(tmp_path: Path) -> None:
    (tmp_path / "setting.toml").write_text(block("# setting.toml"))
    setting = load_setting(tmp_path / "setting.toml")
    assert set(setting.names) == {"red_gain", "blue_gain", "digital_gain", "black_offset"}
    assert all(f'`"{rule}"`' in section("setting.toml") for rule in RULES)


def test_the_sidecar_loads(tmp_path: Path) -> None:
    text = block("# frame.raw.toml").replace("1920", "8").replace("1080", "6")
    (tmp_path / "frame.raw.toml").write_text(text)
    np.full((6, 8), 700, "<u2").tofile(tmp_path / "frame.raw")
    raw = load_headerless(tmp_path / "frame.raw")
    assert (raw.iso, raw.exposure_s, raw.as_shot_wb) == (400, 0.01, (2.0, 1.0, 1.5))
    told = section("FILE.toml")
    assert all(f"`{key}`" in told for key in Sidecar.model_fields)


def test_the_table_of_scenes_loads(tmp_path: Path) -> None:
    import cv2

    table = blocks(FILES, "csv")[0]
    (tmp_path / "scenes.csv").write_text(table)
    (tmp_path / "night").mkdir()
    frame = RawFrame(np.full((4, 4), 100, np.uint16), "RGGB", (0,) * 4, 1023)
    # The names of the page are DNGs; what counts here is that each is found.
    for row in table.splitlines()[1:]:
        name, _, _, reference = row.split(",")
        save_npz((tmp_path / name).with_suffix(".npz"), frame)
        if reference:
            cv2.imwrite(str(tmp_path / reference), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "scenes.csv").write_text(table.replace(".dng", ".npz"))
    entries = read_raw_folder(tmp_path)
    assert [(e.scene, e.reference is not None) for e in entries] == [
        ("street", True),
        ("street", False),
        ("harbour", True),
    ]
    assert table.splitlines()[0].split(",") == list(_COLUMNS)
    assert all(f"| `{column}` |" in FILES for column in _COLUMNS)


def test_the_annotations_load(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text(blocks(FILES, "json")[0])
    data = read_coco(tmp_path / "annotations.json")
    assert len(data.images) == 1
    assert [c["name"] for c in data.categories.values()] == ["person"]


@pytest.mark.parametrize("url", ["sim:sim20", "sim:sim32", "sim:sim60", "libraw:"])
def test_a_device_writes_the_file_to_edit(tmp_path: Path, url: str) -> None:
    done = CliRunner().invoke(APP, ["device", "info", url, "--toml", str(tmp_path / "new" / "expert.toml")])
    assert done.exit_code == 0, done.output
    with open_device(url) as device:
        space = device.info().space
    assert space.load_toml(tmp_path / "new" / "expert.toml").hash == space.defaults.hash
    text = (tmp_path / "new" / "expert.toml").read_text(encoding="utf-8")
    assert all(f"{p.name} = " in text and p.describe_range() in text for p in space.parameters)


def test_a_file_that_was_edited_is_not_overwritten_with_the_defaults(tmp_path: Path) -> None:
    words = ["device", "info", "sim:sim20", "--toml", str(tmp_path / "expert.toml")]
    assert [CliRunner().invoke(APP, words).exit_code for _ in range(2)] == [0, 0]
    edited = (tmp_path / "expert.toml").read_text(encoding="utf-8").replace("gamma = ", "gamma = 1.8  # was ")
    (tmp_path / "expert.toml").write_text(edited, encoding="utf-8")
    refused = CliRunner().invoke(APP, words)
    assert "expert.toml: is there already with other text and is not replaced" in str(refused.exception)
    assert (tmp_path / "expert.toml").read_text(encoding="utf-8") == edited


# ---- words and defaults


def test_the_table_of_recipes_is_the_codes() -> None:
    fast, paper = fast_recipe(), paper_recipe()
    rows: dict[str, list[Any]] = {
        "optimiser": [r.optimiser for r in (fast, paper)],
        "first learning rate": [r.learning_rate for r in (fast, paper)],
        "last learning rate": [r.last_learning_rate for r in (fast, paper)],
        "length": [f"{r.steps} steps" if r.steps else f"{r.epochs} epochs" for r in (fast, paper)],
        "RAWs a step": [r.batch for r in (fast, paper)],
        "channels of the first encoder": [r.width for r in (fast, paper)],
        "metadata as inputs": ["yes" if r.metadata else "no" for r in (fast, paper)],
        "share of steps through the proxy's base alone": [r.coarse for r in (fast, paper)],
        "longer side of the planes that the network sees, at most": [r.longest for r in (fast, paper)],
        "windows at full resolution beside them, and statistics": [
            "yes" if r.windows and r.statistics else "no" for r in (fast, paper)
        ],
    }
    for name, (one, other) in rows.items():
        assert f"| {name} | {one} | {other} |" in WORDS
    proxy = ProxyRecipe()
    line = WORDS.rsplit("`fit-proxy`: ", 1)[1]
    assert line.split("\n")[0] == (
        f"{proxy.base_steps} steps of the base, {proxy.steps} of the whole network, {proxy.batch} crops of "
        f"{proxy.crop}×{proxy.crop} pixels a step, width {proxy.width}, learning rate {proxy.learning_rate:g}."
    )
    assert f"below {FOLLOWED:g}" in WORDS


def test_the_help_of_train_gives_the_defaults_of_both_recipes() -> None:
    fast, paper = fast_recipe(), paper_recipe()
    told = " ".join(CliRunner().invoke(APP, ["train", "--help"], env={"COLUMNS": "240"}).output.split())
    assert f"fast: {fast.steps} steps of {fast.batch} RAWs, AdamW {fast.learning_rate:g}, {fast.width} channels" in told
    assert (
        f"{paper.epochs} epochs of {paper.batch} RAWs a step, RMSprop {paper.learning_rate:g}, {paper.width} channels"
        in told
    )
    told = " ".join(CliRunner().invoke(APP, ["fit-proxy", "--help"], env={"COLUMNS": "240"}).output.split())
    proxy = ProxyRecipe()
    assert all(f"[default: {n}" in told for n in (proxy.steps, proxy.base_steps, proxy.width))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("validate",), ("mean of predictions",)),
        (("device", "list"), ("[devices]", "[network]", "plain")),
        (("train",), ("--start", "does not follow")),
        (("tune",), ("device info DEVICE --toml",)),
        (("validate",), ("device info DEVICE --toml",)),
    ],
)
def test_help_explains_its_words(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    told = " ".join(CliRunner().invoke(APP, [*command, "--help"], env={"COLUMNS": "240"}).output.split())
    assert all(word in told for word in words)


def test_every_row_of_a_table_is_explained() -> None:
    explained = [line.split("|")[1].strip() for line in WORDS.splitlines() if line.startswith("| ")]
    words = {word for cell in explained for word in cell.split(", ")}
    assert {"default", "expert", "best fixed", "industry", "predicted", "mean of predictions"} <= words
    assert {"per-image oracle", "gap closed", "held", "captures", "clean photographs"} <= words


# ---- links


def test_the_readme_leads_to_every_page() -> None:
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (
        "docs/files.md",
        "docs/words.md",
        "docs/recipes.md",
        "docs/architecture.md",
        "drivers/protocol/PROTOCOL.md",
    ):
        assert page in told
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:docs|drivers|workbench|sim|proxy|predictor)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page}: {path}"
    json.loads(blocks(FILES, "json")[0])
