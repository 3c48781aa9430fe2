"""``workbench predict``: the parameters that a predictor chooses for one RAW file."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from drivers.frames import RawFrame
    from drivers.parameters import ParameterSet
    from drivers.raw.raw_notes import RawNote


def predict(
    file: Annotated[Path, typer.Argument(help="RAW file (DNG, NEF, CR2, ARW, .npz, headerless with sidecar, …).")],
    predictor: Annotated[str | None, typer.Option(help="Name of the train run; the newest where left out.")] = None,
    lab: Annotated[Path, typer.Option(help="Lab folder with the runs.")] = Path("lab"),
    toml: Annotated[Path | None, typer.Option(help="Write the parameters as TOML to this file.")] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Draw the attention maps as a PNG.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the attention maps.")] = Path(),
    show: Annotated[
        list[str] | None, typer.Option("--show", help="Parameter whose attention to draw, may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parameters as JSON.")] = False,
) -> None:
    """Predict the parameters of one RAW, in native units."""
    from drivers.atomic_files import write_text
    from drivers.errors import WorkbenchError
    from drivers.foreign_text import shown
    from drivers.raw.raw_files import companions
    from drivers.raw.raw_notes import told_once
    from workbench.board import prediction
    from workbench.board.prediction import check_names, draw_prediction
    from workbench.console.notes import say
    from workbench.learn.base_rule import follow_in_words
    from workbench.learn.held import held_in_words
    from workbench.rules.tuned import RULES

    def tell(notes: Sequence[RawNote]) -> None:
        say(told_once((file.name, note) for note in notes))

    found = prediction.predict(lab, file, predictor=predictor, on_notes=tell)
    check_names(found, show or ())
    if toml and toml.exists() and any(map(toml.samefile, [file, *companions(file)])):
        raise WorkbenchError(f"--toml {shown(toml)}: {shown(file)} was read from it; give the parameters another name")
    parameters, text = found.parameters, found.to_toml()
    picture = draw_prediction(found, out, show or ()) if attention else None
    if toml:
        toml.parent.mkdir(parents=True, exist_ok=True)
        write_text(toml, text)
    if as_json:
        print(
            json.dumps(
                {
                    "file": str(file),
                    "run": found.run.name,
                    "space": parameters.space.name,
                    "parameters": parameters.values,
                    "codes": parameters.by_name,
                    "held": list(found.held),
                    "on_top_of": found.run.config.get("on_top_of"),
                    "follow": dict(found.follow),
                    "rule_parameters": found.rule.values if found.rule else None,
                    "parameters_hash": parameters.hash,
                    "metadata": found.metadata,
                    "input": [found.width, found.height],
                    "gflop": found.gflop,
                    "attention": str(picture) if picture else None,
                }
            )
        )
        return
    raw = found.raw
    _print_table(parameters, f"{file.name}: predicted by {found.run.name}", found.held, found.rule)
    if base := found.base:
        print(f"on top of {RULES[base.kind]} ({base.run}); {follow_in_words(found.follow)}")
    if found.held:
        print(held_in_words(parameters.space, found.held))
    known = _inputs(raw) if found.metadata else "image only"
    print(
        f"from {known}; {found.gflop:.3g} GFLOP for {found.width}×{found.height} planes of the "
        f"{raw.width}×{raw.height} RAW"
    )
    if toml:
        print(f"TOML: {toml}")
    else:
        print("\n" + text, end="")
    if picture:
        print(f"attention maps: {picture}")


def _inputs(raw: RawFrame) -> str:
    """What a predictor with metadata inputs was told of this RAW."""
    metadata = {"ISO": raw.iso, "exposure": raw.exposure_s, "as-shot white balance": raw.as_shot_wb}
    words = ["image", *(name for name, value in metadata.items() if value)]
    text = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    missing = [name for name, value in metadata.items() if not value]
    return f"{text} (the file does not tell its {', '.join(missing)})" if missing else text


def _print_table(parameters: ParameterSet, title: str, held: Collection[str], rule: ParameterSet | None) -> None:
    from rich.table import Table

    from workbench.console import terminal

    table = Table(title=title)
    more = [*(["rule"] if rule else []), *(["held"] if held else [])]
    for column in ("block", "parameter", "value", *more, "unit", "default", "range"):
        table.add_column(
            column,
            justify="right" if column in ("value", "rule", "default") else "left",
            no_wrap=column in ("parameter", "value"),
            overflow="fold",
        )
    space = parameters.space
    for block, names in space.blocks.items():
        for i, name in enumerate(names):
            p = space[name]
            value, default = parameters[name], p.from_code(p.to_code(p.default))
            table.add_row(
                "" if i else block,
                name,
                _native(value),
                *([_native(rule[name])] if rule else []),
                *([("held" if name in held else "")] if held else []),
                p.unit,
                _native(default),
                p.describe_range().removesuffix(f" {p.unit}"),
            )
    terminal.console().print(table)


def _native(value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
