"""How the site is built: `make docs`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs.reference_pages import write_reference  # noqa: E402

project = "jostle"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# The language of a code block may be unknown to the highlighter.
suppress_warnings = ["misc.highlighting_failure"]
smartquotes = False  # two hyphens are an option's
html_theme = "furo"
html_title = f"jostle {release}"
html_extra_path = ["house.svg", "task_map_dark.svg"]
html_show_sphinx = False
nitpicky = True

write_reference(Path(__file__).parent / "reference")
