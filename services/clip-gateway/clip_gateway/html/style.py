"""The style of every page. It is inline: a browser that must fetch a style shows an empty page until then.

The content security policy allows exactly this text, by its hash.
"""

import base64
import hashlib
from pathlib import Path

STYLE = (Path(__file__).parent / "static" / "clips.css").read_text("utf-8")
STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
