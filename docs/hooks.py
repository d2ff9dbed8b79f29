"""Hooks of `make docs`: add files from outside docs/, and adapt docstrings to Markdown."""

from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ADDED = ("benchmarks/RESULTS.md", "benchmarks/speed.svg")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add files from outside docs/ that the pages link to."""
    for path in ADDED:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Rewrite links from docs/ to benchmarks/, which the built site has at its root."""
    return markdown.replace("](../benchmarks/", "](benchmarks/")


class CodeBlocks(griffe.Extension):
    """Drop one of the two colons that mark code blocks in docstrings; Markdown would show it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            lines = obj.docstring.value.splitlines()
            shown = [line[:-1] if line.endswith("::") else line for line in lines]
            obj.docstring.value = "\n".join(shown)
