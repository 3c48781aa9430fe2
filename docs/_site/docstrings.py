"""What docstrings here have beside Google's style: references (``:class:`Frame```) and names told together (``a, b:``).

A reference becomes a link; one that names nothing is a warning of autorefs.
"""

from __future__ import annotations

import builtins
import re
import sys
from typing import Any

import griffe

_SHARED = re.compile(r"^( +)(\w+(?:, \w+)+): (.+)$", re.MULTILINE)
_ROLE = re.compile(r":(attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites each docstring once everything is loaded."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Go through ``pkg`` and all that it holds."""
        self._members(pkg)

    def _members(self, of: griffe.Module | griffe.Class) -> None:
        self._docstring(of)
        for member in of.members.values():
            if member.is_alias:
                continue
            if isinstance(member, griffe.Module | griffe.Class):
                self._members(member)
            elif isinstance(member, griffe.Function | griffe.Attribute):
                self._docstring(member)

    def _docstring(self, of: griffe.Object) -> None:
        if of.docstring is None:
            return
        of.docstring.value = _ROLE.sub(lambda role: self._link(role, of), of.docstring.value)
        if isinstance(of, griffe.Function | griffe.Class):
            known = {parameter.name for parameter in of.parameters}
            of.docstring.value = _SHARED.sub(lambda shared: _apart(shared, known), of.docstring.value)

    def _link(self, role: re.Match[str], of: griffe.Object) -> str:
        """Markdown for one reference: a link, or plain code for what the reference pages do not show."""
        kind, short, name = role.groups()
        text = f"`{name.rsplit('.', 1)[-1] if short else name}`"
        first, _, rest = name.partition(".")
        try:
            path = of.resolve(first) + (f".{rest}" if rest else "")
        except griffe.NameResolutionError:
            if "." not in name and kind == "attr":  # set in a way that griffe does not see
                return text
            path = name
        root = path.split(".")[0]
        if "._" in path or root in sys.stdlib_module_names or hasattr(builtins, root):
            return text
        try:
            shown = of.modules_collection[path].has_docstring
        except (KeyError, griffe.AliasResolutionError):
            shown = True
        return f"[{text}][{path}]" if shown else text


def _apart(shared: re.Match[str], known: set[str]) -> str:
    indent, names, text = shared.groups()
    each = names.split(", ")
    return "\n".join(f"{indent}{name}: {text}" for name in each) if known.issuperset(each) else shared[0]
