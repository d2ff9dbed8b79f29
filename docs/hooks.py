"""What `make docs` does beside what MkDocs does: see mkdocs.yml."""

from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = ("benchmarks/RESULTS.md", "benchmarks/speed.svg")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in what stands beside docs/, and is linked to from there as it is in the repository."""
    for path in BESIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace("](../benchmarks/", "](benchmarks/")


class CodeBlocks(griffe.Extension):
    """The docstrings mark a block of code by two colons, of which Markdown shows one too many."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            lines = obj.docstring.value.splitlines()
            shown = [line[:-1] if line.endswith("::") else line for line in lines]
            obj.docstring.value = "\n".join(shown)
