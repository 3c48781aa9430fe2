"""What stands in the pages runs: each page's bash and Python blocks, in order, in a folder of its own, at a small size.

A block after ``<!-- not run: reason -->`` is not run; its commands are parsed all the same.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from drivers.raw.dng import dng_bytes
from drivers.raw.raw_files import load_raw
from sim.firmware.registers import emulated
from workbench import commands
from workbench.cli import _every_command

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "results" not in p.parts),
]
APP = typer.Typer(rich_markup_mode=None)
APP.callback()(_every_command)
commands.register(APP)
COMMAND = typer.main.get_command(APP)

# What a command takes here in place of what the page says, or of its default.
SMALL = {
    "sim scenes": {"--lab-scenes": "6", "--raws-per-photograph": "1", "--raws-per-scene": "1", "--size": "64x64"},
    "collect": {"--captures": "24"},
    "fit-proxy": {"--steps": "1", "--base-steps": "2", "--width": "4"},
    "train": {"--steps": "2", "--batch": "2"},
    "tune": {"--captures": "24", "--raws-per-trial": "2"},
    "validate": {"--oracle-captures": "2", "--test-raws": "2"},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    not_run: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order; also those in lists."""
    name = str(page.relative_to(ROOT))
    found = []
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "fence":
            not_run = before is not None and before.content.startswith("<!-- not run: ")
            found.append(Block(name, (token.map or [0])[0] + 1, token.info.strip(), token.content, not_run))
    return found


def commands_of(block: Block) -> list[list[str]]:
    """The words of each command of a bash block; variables that it sets itself stand for their text."""
    variables: dict[str, str] = {}
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        text = re.sub(r"\$(\w+)", lambda name: variables[name[1]], line)
        words = shlex.split(text, comments=True)
        if words and (setting := re.fullmatch(r"(\w+)=(.*)", words[0])) and len(words) == 1:
            variables[setting[1]] = setting[2]
        elif words:
            found.append(words)
    return found


EVERY = [block for page in PAGES for block in blocks(page)]
WRITTEN = [(str(block), words) for block in EVERY if block.language == "bash" for words in commands_of(block)]
TO_RUN = sorted({b.page for b in EVERY if b.language in ("bash", "python") and not b.not_run})


@pytest.mark.parametrize(("where", "words"), [(w, c) for w, c in WRITTEN if c[0] == "workbench"])
def test_every_written_command_is_one_that_the_workbench_takes(where: str, words: list[str]) -> None:
    at, context = COMMAND, None
    left = words[1:]
    while True:
        context = at.make_context(where, left, parent=context, resilient_parsing=False)
        if not hasattr(at, "resolve_command"):
            break
        name, found, left = at.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None, f"{where}: {name}: no such command"
        at = found


def test_blocks_of_commands_say_so() -> None:
    for block in EVERY:
        commands_in_it = re.search(r"^(\$ )?(workbench|make) [a-z]", block.text, re.MULTILINE)
        assert not commands_in_it or block.language in ("bash", "console", "python"), f"{block}: is bash"


def test_what_is_not_run_says_why() -> None:
    for page in PAGES:
        for reason in re.findall(r"<!-- not run:(.*?)-->", page.read_text(encoding="utf-8")):
            assert len(reason.strip()) > 5, page


def invoke(words: list[str]) -> None:
    done = CliRunner().invoke(APP, words, catch_exceptions=False)
    assert done.exit_code == 0, f"workbench {shlex.join(words)}: {done.output[-1000:]}"


def small(words: list[str]) -> list[str]:
    """The command with its sizes replaced."""
    name = next((n for n in SMALL if words[: len(n.split())] == n.split()), None)
    words = list(words)
    for option, value in SMALL.get(name or "", {}).items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of a page has before it: RAWs with references, a device called board, a photograph, captures."""
    folder = tmp_path_factory.mktemp("pages") / "material"
    (folder / "lab").mkdir(parents=True)
    (folder / "lab" / "lab.toml").write_text('[devices]\nboard = "sim:sim20"\n', encoding="utf-8")
    invoke(small(["sim", "scenes", str(folder / "my_raws")]))
    (folder / "photo.dng").write_bytes(dng_bytes(load_raw(next((folder / "my_raws").glob("*.npz")))))
    invoke(["device", "info", "sim:sim20", "--toml", str(folder / "expert.toml")])
    raws, lab = str(folder / "my_raws"), str(folder / "lab")
    invoke(small(["collect", "--device", "board", "--raws", raws, "--lab", lab]))
    return folder


@pytest.mark.parametrize("page", TO_RUN)
def test_a_page_runs(
    page: str, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: Callable[..., str]
) -> None:
    monkeypatch.chdir(shutil.copytree(material, tmp_path / "reader"))
    todo = [b for b in EVERY if b.page == page and not b.not_run]
    url = serving(emulated("sim20")) if any("127.0.0.1:5555" in b.text for b in todo) else ""
    names: dict[str, Any] = {}
    for block in todo:
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
            for suite in [value for name, value in names.items() if name.startswith("Test")]:
                for name in [name for name in dir(suite) if name.startswith("test_")]:
                    getattr(suite(), name)()
        elif block.language == "bash":
            for words in commands_of(block):
                assert words[0] == "workbench", f"{block}: {words[0]}"
                invoke(small([w.replace("zmq://127.0.0.1:5555", url) for w in words[1:]]))
