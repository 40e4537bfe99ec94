"""What a page holds, taken out of its file."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

_BLOCK = r'<script type="text/plain" id="{}">([^<]*)</script>'


def page_data(path: Path, block: str = "data") -> Any:
    """The content of a block."""
    found = re.search(_BLOCK.format(block), path.read_text(encoding="utf-8"))
    assert found, f"the page has no block {block}"
    return json.loads(gzip.decompress(base64.b64decode(found[1])))
