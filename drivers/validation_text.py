"""A fault in a file as one line for people: the key, its value, what it must be, and which keys there are.

Pydantic says where a value is wrong in the terms of Python types ("missing" for the third of three numbers, a line for
each member of a union). A person who wrote a TOML file needs the key as written there and what may stand beside it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from drivers.foreign_text import shown

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_LENGTH = 60
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "dict": "a table of keys",
    "mapping": "a table of keys",
    "model": "a table of keys",
    "list": "a list",
    "tuple": "a list",
}
_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def fault_in_words(error: ValidationError, document: Any, model: type[BaseModel]) -> str:
    """The first fault that a model finds in a document, in one line without the file's name.

    Args:
        error: what ``model`` raised.
        document: the data that it was given (of TOML or JSON: tables, lists, texts, numbers, bools).
        model: names the keys that there are.

    Returns:
        Such as ``black_level = -1: must be at least 0`` or ``colour: unknown key; did you mean 'color'?``.
    """
    faults = error.errors()
    first = faults[0]
    path, value = _resolved(first["loc"], document)
    if first["type"] == "missing" and isinstance(first["loc"][-1], str) and len(path) < len(first["loc"]):
        return f"{_written((*path, first['loc'][-1]))}: missing"
    if first["type"] == "extra_forbidden":
        return f"{_written(path)}: unknown key{_known(model, path)}"
    if first["type"] == "value_error":
        said = shown(first["msg"].removeprefix("Value error, "))
        return f"{_written(path)}: {said}" if path else said
    if first["loc"] and first["loc"][-1] == "[key]":
        return f"{_written(path[:-1])}: the name {short(path[-1])} must {_expected(first, path[-1])}"
    # The members of a union fault the same value each in its own way.
    expected = list(dict.fromkeys(_expected(f, value) for f in faults if _resolved(f["loc"], document)[0] == path))
    told = f"{_written(path)} = {short(value)}" if path else short(value)
    return f"{told}: must {' or '.join(expected)}"


def short(value: Any) -> str:
    """A value on one line of at most 60 characters, as TOML and Python write it."""
    try:
        text = shown(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, a table nested without end
        return f"this {type(value).__name__}"
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…"


def _resolved(place: Sequence[int | str], document: Any) -> tuple[tuple[int | str, ...], Any]:
    """As much of a fault's place as the document has, without pydantic's own names of union members; its value."""
    path: list[int | str] = []
    for part in place:
        inside = document if isinstance(document, Mapping) else None
        if isinstance(document, list | tuple):
            inside = dict(enumerate(document))
        if inside is not None and part in inside:
            document = inside[part]
            path.append(part)
    return tuple(path), document


def _written(path: Sequence[int | str]) -> str:
    """A place as people write it: ``parameters[2].low``, counted from 0 as in most languages."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    told = shown(text.removeprefix("."))
    return told if len(told) <= 2 * _LENGTH else told[: 2 * _LENGTH - 1] + "…"


def _expected(fault: Mapping[str, Any], value: Any) -> str:
    kind, context = str(fault["type"]), fault.get("ctx") or {}
    if kind == "missing":  # of a list with a fixed number of values: the place names the first that is not there
        return f"have more values than {len(value)}" if isinstance(value, list | tuple) else "be complete"
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        wanted = f"at least {least}" if kind == "too_short" else f"at most {most}"
        return f"have {wanted} values, not {context.get('actual_length', 'that many')}"
    if kind in ("string_too_short", "string_too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        return f"have at least {least} characters" if kind == "string_too_short" else f"have at most {most} characters"
    if kind == "literal_error":
        return f"be {context['expected']}"
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"be {words} {context[key]:g}"
    if kind == "string_pattern_mismatch":
        return f"be of the form {context['pattern']}"
    if kind == "finite_number":
        return "be finite"
    if kind in ("int_from_float", "int_parsing"):
        return "be a whole number"
    for name, words in _KINDS.items():
        if kind.startswith((f"{name}_type", f"{name}_parsing", f"{name}_attributes")):
            return f"be {words}"
    said = str(fault["msg"])
    return f"be valid ({shown(said[:1].lower() + said[1:])})"


def _known(model: type[BaseModel], path: Sequence[int | str]) -> str:
    """What to write in place of the last key of ``path``, which the model does not know."""
    at: type[BaseModel] | None = model
    for part in path[:-1]:
        if isinstance(part, str) and at is not None:
            field = next((f for n, f in at.model_fields.items() if part in (n, f.alias)), None)
            at = next(_models(field.annotation), None) if field else None
    if at is None:
        return ""
    names = [f.alias or n for n, f in at.model_fields.items()]
    close = difflib.get_close_matches(str(path[-1]), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
