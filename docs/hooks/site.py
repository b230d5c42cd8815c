"""A hook of mkdocs: the style sheet that colours code, made by Pygments when the pages are built."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pygments.formatters import HtmlFormatter

STYLES = {".highlight": "default", "[data-bs-theme=dark] .highlight": "github-dark"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    sheets = [HtmlFormatter(style=style).get_style_defs(selector) for selector, style in STYLES.items()]
    files.append(File.generated(config, "pygments.css", content="\n".join(sheets)))
    return files
