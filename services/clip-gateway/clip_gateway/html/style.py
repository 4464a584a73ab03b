"""The style of every page. It stands in the page: a browser that has to fetch it shows nothing till then.

The content security policy allows this one text, by its hash, and no other.
"""

import base64
import hashlib
from pathlib import Path

STYLE = (Path(__file__).parent / "static" / "clips.css").read_text("utf-8")
STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
