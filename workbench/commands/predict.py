"""``workbench predict``: the parameters that a predictor chooses for one RAW file."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivers.atomic_files import write_text

if TYPE_CHECKING:
    import numpy as np

    from drivers.frames import RawFrame
    from drivers.parameters import ParameterSet
    from predictor.distance import Distance


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
    from drivers.raw.raw_files import load_raw
    from drivers.raw.raw_notes import RawNote, told_once
    from predictor.distance import load_distance
    from predictor.files import input_planes, load_predictor
    from workbench.console.notes import say
    from workbench.errors import RunError
    from workbench.lab.runs import find_run
    from workbench.learn.held import REMARK, held_by, held_in_words

    notes: list[RawNote] = []
    raw = load_raw(file, notes)
    say(told_once((file.name, note) for note in notes))
    run = find_run(lab, "train", predictor)
    loaded = load_predictor(run.path)
    space = loaded.space
    if unknown := [n for n in show or () if n not in space.names]:
        raise RunError(f"unknown parameter {unknown[0]!r} for {space.name}; it has {', '.join(space.names)}")
    parameters = loaded.predict([raw])[0]
    height, width = input_planes(raw, loaded.longest).shape[1:]
    cost = loaded.gflop(height, width)
    known_raws = load_distance(run.path)
    distance = known_raws.of(loaded, raw) if known_raws else None
    declined = known_raws is not None and distance is not None and known_raws.declines(distance)
    held = held_by(run)
    if still := [n for n in show or () if attention and n in held]:
        raise RunError(f"--show {still[0]}: has no attention map: it is {REMARK}")
    remarks = dict.fromkeys(held, REMARK)
    text = space.to_toml(parameters, f"Predicted for {file.name} by {run.name}", remarks)
    if toml:
        toml.parent.mkdir(parents=True, exist_ok=True)
        write_text(toml, text)
    picture = None
    if attention:
        picture = out / f"{file.stem}.attention.png"
        maps = loaded.attention(raw)
        chosen = list(show) if show else most_concentrated(maps, space.names, held=held)
        if not chosen:
            raise RunError(f"{run.name}: every parameter is held at its start value, so there is no attention to draw")
        out.mkdir(parents=True, exist_ok=True)
        draw_attention(raw, maps, space.names, chosen, picture, f"{file.name}, {run.name}")
    if as_json:
        print(
            json.dumps(
                {
                    "file": str(file),
                    "run": run.name,
                    "space": space.name,
                    "parameters": parameters.values,
                    "codes": parameters.by_name,
                    "held": held,
                    "parameters_hash": parameters.hash,
                    "metadata": loaded.metadata,
                    "input": [int(width), int(height)],
                    "gflop": cost,
                    "distance": distance,
                    "distance_limit": known_raws.limit if known_raws else None,
                    "declined": declined,
                    "attention": str(picture) if picture else None,
                }
            )
        )
        return
    _print_table(parameters, f"{file.name}: predicted by {run.name}", held)
    if held:
        print(held_in_words(space, held))
    known = _inputs(raw) if loaded.metadata else "image only"
    print(f"from {known}; {cost:.3g} GFLOP for {width}×{height} planes of the {raw.width}×{raw.height} RAW")
    if known_raws is not None and distance is not None:
        print(_told_distance(known_raws, distance))
    if toml:
        print(f"TOML: {toml}")
    else:
        print("\n" + text, end="")
    if picture:
        print(f"attention maps: {picture}")


def _told_distance(known: Distance, distance: float) -> str:
    """How far the RAW lies from those that the predictor was trained on, and what to do."""
    text = f"distance from the training RAWs: {distance:.2f}"
    if known.limit is None:
        return f"{text} (no limit: there were no validation RAWs to calibrate one on)"
    text += f", limit {known.limit:.2f} ({known.quantile:.0%} of the validation RAWs lie within)"
    return f"{text}\ndeclined: use the best fixed set" if known.declines(distance) else text


def _inputs(raw: RawFrame) -> str:
    """What a predictor with metadata inputs was told of this RAW."""
    metadata = {"ISO": raw.iso, "exposure": raw.exposure_s, "as-shot white balance": raw.as_shot_wb}
    words = ["image", *(name for name, value in metadata.items() if value)]
    text = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    missing = [name for name, value in metadata.items() if not value]
    return f"{text} (the file does not tell its {', '.join(missing)})" if missing else text


def _print_table(parameters: ParameterSet, title: str, held: Collection[str]) -> None:
    from rich.table import Table

    from workbench.console import terminal

    table = Table(title=title)
    for column in ("block", "parameter", "value", *(["held"] if held else []), "unit", "default", "range"):
        table.add_column(
            column,
            justify="right" if column in ("value", "default") else "left",
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


def most_concentrated(maps: np.ndarray, names: list[str], count: int = 5, held: Collection[str] = ()) -> list[str]:
    """The parameters whose maps are the least even (lowest entropy), in the order of the space; none that is held.

    Args:
        maps: ``float [N, h, w]``, each summing to 1.
        names: of the N parameters.
        count: how many.
        held: those that training held, whose maps say nothing.
    """
    import numpy as np

    entropy = -(maps * np.log(np.maximum(maps, 1e-12))).sum(axis=(1, 2))
    order = [i for i in np.argsort(entropy, kind="stable") if names[i] not in held]
    return [names[i] for i in sorted(order[:count])]


def draw_attention(
    raw: RawFrame, maps: np.ndarray, names: list[str], chosen: list[str], path: Path, title: str
) -> None:
    """The RAW and, over it, the attention maps of the chosen parameters (figure 6), as one PNG.

    Args:
        raw: the RAW; shown with a plain grey-world balance and gamma.
        maps: ``float [N, h, w]``, each summing to 1.
        names: of the N parameters; ``chosen``: those to draw.
        path: of the PNG; ``title``: above the picture.
    """
    import cv2
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from workbench.draw.figure_texts import plain_texts

    planes = raw.planes()
    step = max(1, max(planes.shape[1:]) // 640)
    image = np.clip(planes[:, ::step, ::step].transpose(1, 2, 0), 0, None)
    image *= image.mean() / np.maximum(image.mean(axis=(0, 1)), 1e-6)
    image = np.clip(image / max(float(np.percentile(image, 99)), 1e-6), 0, 1) ** (1 / 2.2)
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    height, width = image.shape[:2]
    columns = min(len(chosen) + 1, 3)
    rows = -(-(len(chosen) + 1) // columns)
    figure = Figure(figsize=(4.2 * columns, (4.2 * height / width + 0.5) * rows + 0.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes:
        axis.axis("off")
    axes[0].imshow(image)
    axes[0].set_title("RAW, grey-world")
    for axis, name in zip(axes[1:], chosen, strict=False):
        weights = maps[names.index(name)]
        # 1 is an even map: what stands out is where the network looked more than elsewhere.
        relative = cv2.resize(weights * weights.size, (width, height), interpolation=cv2.INTER_LINEAR)
        axis.imshow(grey)
        map_drawn = axis.imshow(relative, cmap="inferno", alpha=0.6, vmin=0, vmax=max(2.0, float(relative.max())))
        axis.set_title(name.replace("_", " "))
        figure.colorbar(map_drawn, ax=axis, shrink=0.8, label="times an even map")
    figure.suptitle(title, parse_math=False)
    plain_texts(figure)
    canvas.print_png(str(path))
