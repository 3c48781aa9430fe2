"""Recipes: TOML files that make a device of a command-line ISP. ``docs/recipes.md`` tells how to write one.

The recipes in this folder are shipped with the project; ``command:NAME`` opens them.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drivers.errors import DeviceError, ParameterError
from drivers.frames import RawFrame
from drivers.parameter_models import ParameterModel
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from drivers.regular_files import read_toml
from drivers.validation_text import fault_in_words

_FOLDER = Path(__file__).parent
_FILES = ("raw", "settings", "output", "recipe")
_FACTS = ("width", "height", "cfa", "black_0", "black_1", "black_2", "black_3", "white", "iso")
_MATCH_S = 2.0
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"


class Version(BaseModel):
    """How the program tells its version: the first group of ``pattern`` (or all of it) in what ``command`` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...] = Field(min_length=1)
    pattern: str = Field(default=r"\S[^\r\n]*", max_length=1000)


class Output(BaseModel):
    """The file that the program writes. ``size`` says what to do where it is not as large as the RAW."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=_FILE_NAME)
    kind: Literal["png", "jpeg", "tiff", "ppm"]
    size: Literal["same", "pad"] = "same"


class Settings(BaseModel):
    """The settings file: ``$name`` in the template is the parameter's text, ``$$`` a dollar sign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=_FILE_NAME)
    template: str


class Text(BaseModel):
    """How values are written: a number format, the words for bools, and exceptions by parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: str = Field(default=".6f", pattern=r"^(\.\d+[feg]|d)$")
    true: str = "true"
    false: str = "false"
    parameters: dict[str, str | dict[str, str]] = {}


class Recipe(BaseModel):
    """One program as a device.

    Attributes:
        model: what the device is called.
        command: the arguments, with ``{name}`` for files, facts of the RAW and parameters.
        raw: what the program reads: a DNG, or ``u16``, the bare mosaic, little-endian.
        time_limit_s: seconds that one frame may take; without it the caller's deadline.
        environment: environment variables for the program.
        version: how to find its version; without it the program file's hash is the version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, max_length=100)
    command: tuple[str, ...] = Field(min_length=1)
    raw: Literal["dng", "u16"] = "dng"
    time_limit_s: float | None = Field(default=None, gt=0, le=86400)
    environment: dict[str, str] = {}
    version: Version | None = None
    output: Output
    settings: Settings | None = None
    text: Text = Text()
    parameter_models: tuple[ParameterModel, ...] = Field(alias="parameters", min_length=1, max_length=1024)
    hash: str = ""
    folder: Path = Path()

    @cached_property
    def space(self) -> ParameterSpace:
        """The parameters."""
        return ParameterSpace(self.model, self.parameters)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, in the order of the recipe."""
        return tuple(model.parameter for model in self.parameter_models)

    def values(self, parameters: ParameterSet) -> dict[str, str]:
        """Every parameter's text by name."""
        codes = parameters.by_name
        return {p.name: self._written(p, codes[p.name]) for p in self.parameters}

    def arguments(self, raw: RawFrame, parameters: ParameterSet, folder: Path) -> list[str]:
        """The command for one frame in ``folder``. An argument of placeholders that are all empty is left out."""
        names = self.values(parameters) | _facts(raw) | {k: str(folder / v) for k, v in self.files.items()}
        names["recipe"] = str(self.folder)
        return [a for t in self.command if (a := t.format_map(names)) or not t]

    def settings_text(self, raw: RawFrame, parameters: ParameterSet) -> str:
        """The settings file's text, or an empty string where the recipe has none."""
        template = self.settings.template if self.settings else ""
        return string.Template(template).substitute(self.values(parameters) | _facts(raw))

    @property
    def files(self) -> dict[str, str]:
        """File names by placeholder."""
        files = {"raw": "raw.dng" if self.raw == "dng" else "raw.bin", "output": self.output.file}
        return files | ({"settings": self.settings.file} if self.settings else {})

    @property
    def program(self) -> str:
        """The program's name or path."""
        return self.command[0].format_map({"recipe": str(self.folder)})

    def version_command(self) -> list[str]:
        """The command that prints the version; empty where the recipe names none."""
        return [a.format_map({"recipe": str(self.folder)}) for a in (self.version.command if self.version else ())]

    def version_in(self, said: str) -> str:
        """The version in what the version command printed; empty where its pattern matches nothing.

        Raises:
            TimeoutError: the pattern is one that takes for ever on this text.
        """
        assert self.version is not None
        match = regex.search(self.version.pattern, said, timeout=_MATCH_S)
        return " ".join((match.group(1 if match.re.groups else 0) or "").split()) if match else ""

    def _written(self, p: Parameter, code: int) -> str:
        value = p.from_code(code)
        own = self.text.parameters.get(p.name)
        if p.kind == "choice":
            return own[str(value)] if isinstance(own, dict) else str(value)
        if p.kind == "bool":
            words = own if isinstance(own, dict) else {"true": self.text.true, "false": self.text.false}
            return words["true" if value else "false"]
        number = own if isinstance(own, str) else "d" if p.kind == "integer" else self.text.number
        return format(int(value) if number == "d" else float(value), number)

    def check(self) -> None:
        """Everything that can be wrong before a program is run.

        Raises:
            DeviceError: one line that names what is wrong.
            ParameterError: the parameters do not make a space.
        """
        names = self.space.names
        if clash := set(names) & {*_FILES, *_FACTS}:
            raise DeviceError(f"parameter {min(clash)!r} has the name of a placeholder; call it something else")
        if len(set(self.files.values())) != len(self.files):
            raise DeviceError("RAW, settings and output need three file names")
        used: set[str] = set()
        known = {*names, *_FACTS, *self.files, "recipe"}
        for position, argument in enumerate(self.command):
            fields = _fields(argument, "command")
            _known(fields, {"recipe"} if position == 0 else known, f"command: {argument!r}")
            used |= fields
        for argument in self.version.command if self.version else ():
            _known(_fields(argument, "version.command"), {"recipe"}, f"version.command: {argument!r}")
        if self.version is not None:
            try:
                regex.compile(self.version.pattern)
            except (regex.error, RecursionError, OverflowError) as error:
                raise DeviceError(f"version.pattern: {error}") from None
        if self.settings is not None:
            used |= self._template_fields({*names, *_FACTS})
            if "settings" not in used:
                raise DeviceError("the settings file is written but command does not name {settings}")
        if "raw" not in used:
            raise DeviceError("command does not name {raw}, the file that the program has to read")
        for p in self.parameters:
            if p.name not in used:
                raise DeviceError(
                    f"parameter {p.name!r} reaches neither the settings nor the command: use it or take it out"
                )
            self._check_text(p)
        if odd := set(self.text.parameters) - set(names):
            raise DeviceError(f"text.parameters: there is no parameter {min(odd)!r}")

    def _template_fields(self, known: set[str]) -> set[str]:
        assert self.settings is not None
        template = string.Template(self.settings.template)
        if not template.is_valid():
            bad = next(m for m in template.pattern.finditer(template.template) if m.group("invalid") is not None)
            line = template.template.count("\n", 0, bad.start()) + 1
            raise DeviceError(f"settings.template line {line}: a $ without a name; a dollar sign is written $$")
        fields = set(template.get_identifiers())
        _known(fields, known, "settings.template")
        return fields

    def _check_text(self, p: Parameter) -> None:
        own = self.text.parameters.get(p.name)
        where = f"text.parameters.{p.name}"
        if p.discrete and p.kind != "integer":
            wanted = set(p.choices) if p.kind == "choice" else {"true", "false"}
            if own is not None and (not isinstance(own, dict) or set(own) != wanted):
                raise DeviceError(f"{where}: needs one word for each of {', '.join(sorted(wanted))}, and no other")
            codes = list(range(p.low_code, p.high_code + 1))
        else:
            if own is not None and not (isinstance(own, str) and re.match(r"^(\.\d+[feg]|d)$", own)):
                raise DeviceError(f'{where}: needs a number format such as ".2f" or "d", not {own!r}')
            codes = [p.low_code, p.low_code + 1, p.high_code - 1, p.high_code]
        texts = {self._written(p, code) for code in set(codes)}
        if len(texts) != len(set(codes)):
            raise DeviceError(f"{where}: two values of the parameter are written alike; use more digits or other words")


def is_shipped(name: str) -> bool:
    """Whether the recipe of this name comes with the project."""
    return name in {path.stem for path in _FOLDER.glob("*.toml")}


def load(name: str) -> Recipe:
    """A shipped recipe by name, or one from a file.

    Args:
        name: ``rawtherapee``, or a path that ends in ``.toml``.

    Raises:
        DeviceError: no such recipe, or something in it is wrong; the message names the file and the place.
    """
    shipped = sorted(p.stem for p in _FOLDER.glob("*.toml"))
    if name in shipped:
        path = _FOLDER / f"{name}.toml"
    elif name.endswith(".toml"):
        path = Path(name).expanduser()
    else:
        raise DeviceError(
            f"no recipe {name!r}: shipped are {', '.join(shipped)}; a recipe of your own is a path that ends in .toml"
        )
    try:
        document = read_toml(path)
    except OSError as error:
        raise DeviceError(f"{path}: cannot read the recipe: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DeviceError(f"{path}: the recipe is not UTF-8 text") from error
    except ValueError as error:
        raise DeviceError(f"{path}: not valid TOML: {error}") from error
    return from_dict(document, path)


def from_dict(document: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe from plain data; ``path`` is where it came from.

    Raises:
        DeviceError: something in it is wrong; the message names the file and the place.
    """
    if odd := {"hash", "folder"} & set(document):
        raise DeviceError(f"{path}: {min(odd)}: a recipe has no such key")
    # Of the meaning and not of the file: comments and order of keys may change.
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()
    try:
        recipe = Recipe(**document, hash=digest, folder=path.resolve().parent)
    except ValidationError as error:
        raise DeviceError(f"{path}: {fault_in_words(error, document, Recipe)}; see docs/recipes.md") from error
    except ParameterError as error:
        raise DeviceError(f"{path}: {error}") from error
    try:
        recipe.check()
    except (DeviceError, ParameterError) as error:
        raise DeviceError(f"{path}: {error}") from error
    return recipe


def _facts(raw: RawFrame) -> dict[str, str]:
    black = {f"black_{i}": f"{level:.10g}" for i, level in enumerate(raw.black_level)}
    return {
        "width": str(raw.width),
        "height": str(raw.height),
        "cfa": raw.cfa,
        **black,
        "white": str(raw.white_level),
        "iso": f"{raw.iso or 0:.10g}",
    }


def _fields(argument: str, where: str) -> set[str]:
    try:
        parts = list(string.Formatter().parse(argument))
    except ValueError as error:
        raise DeviceError(f"{where}: {argument!r}: {error}; a brace is written {{{{ or }}}}") from None
    for _, name, form, conversion in parts:
        if name is not None and (form or conversion or not name.isidentifier()):
            raise DeviceError(f"{where}: {argument!r}: a placeholder is a name in braces and nothing more")
    return {name for _, name, _, _ in parts if name is not None}


def _known(fields: set[str], known: set[str], where: str) -> None:
    if odd := fields - known:
        raise DeviceError(f"{where}: unknown placeholder {min(odd)!r}; known here are {', '.join(sorted(known))}")
