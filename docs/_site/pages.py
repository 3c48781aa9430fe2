"""Pages that do not lie in docs/: those of the root, the protocol, and one page of the API reference for each room."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("drivers", "sim", "proxy", "predictor", "workbench")
# Documents elsewhere in the repository: where they lie, and their page.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "drivers/protocol/PROTOCOL.md": "PROTOCOL.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the rooms to the table of contents."""
    config.nav = [*(config.nav or []), {"API": [{room: f"api/{room}.md"} for room, _ in _rooms()]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents elsewhere and the API reference."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for room, modules in _rooms():
        text = "".join(f"::: {module}\n\n" for module in modules)
        files.append(File.generated(config, f"api/{room}.md", content=f"# {room}\n\n{text}"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links between documents of the repository to their pages, and those to its other files nowhere."""
    own = next((source for source, uri in ELSEWHERE.items() if uri == page.file.src_uri), f"docs/{page.file.src_uri}")
    named = re.sub(r"(?<!\[)`((?:docs/|drivers/)[\w./-]+\.md)`", lambda path: _named(path, page, files), markdown)
    return re.sub(r"\[([^\]\n]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)", lambda link: _link(link, own, page, files), named)


def _named(path: re.Match[str], page: Page, files: Files) -> str:
    """A page's path in the repository, as the documents of the root name it."""
    uri = ELSEWHERE.get(path[1], path[1].removeprefix("docs/"))
    return f"[{path[0]}]({_relative(uri, page)})" if files.get_file_from_path(uri) else path[0]


def _relative(uri: str, page: Page) -> str:
    return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")


def _link(link: re.Match[str], own: str, page: Page, files: Files) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
    uri = ELSEWHERE.get(path, path.removeprefix("docs/"))
    if files.get_file_from_path(uri) is not None:
        return f"[{text}]({_relative(uri, page)}{anchor})"
    if (ROOT / path).exists():
        return text
    return link[0]


def _rooms() -> Iterator[tuple[str, list[str]]]:
    """Each package with the modules that lie in it."""
    for package in PACKAGES:
        for folder in sorted({file.parent for file in (ROOT / package).rglob("*.py")}):
            room = ".".join(folder.relative_to(ROOT).parts)
            if "migrations" not in room:
                names = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
                yield room, [room, *(f"{room}.{name}" for name in names)]
