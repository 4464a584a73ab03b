"""One class name, one meaning, in the whole tree."""

import ast
import subprocess
from collections import defaultdict

from tests.support.deployment import ROOT


def test_no_class_name_stands_twice() -> None:
    files = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    places = defaultdict(list)
    for name in files.splitlines():
        if (ROOT / name).exists():
            for node in ast.walk(ast.parse((ROOT / name).read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{name}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
