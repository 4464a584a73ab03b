"""The tree of errors in the docstring of clip_shared.errors names every exception class of the product."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from clip_shared import errors

PACKAGES = ("clip_shared", "clip_cutter", "clip_registry", "clip_gateway", "janitor")
# Alembic's environment runs migrations when it is imported. It defines no exception.
NOT_IMPORTABLE = {"clip_registry.migrations.env"}
_LINE = re.compile(r"^    ((?:│   |    )*)[├└]── (\w+)", re.MULTILINE)


def modules() -> Iterator[ModuleType]:
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if found.name not in NOT_IMPORTABLE:
                yield importlib.import_module(found.name)


def defined() -> dict[str, tuple[str, str]]:
    """The parent (in the tree) and the module of every exception class, by its name."""
    classes = {
        value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == module.__name__
    }
    names = {each.__name__ for each in classes}
    assert len(names) == len(classes), f"a name stands for two exceptions: {sorted(map(str, classes))}"
    return {each.__name__: (_parent(each, classes), each.__module__) for each in classes}


def _parent(error: type, ours: set[type]) -> str:
    return next((base.__name__ for base in error.__bases__ if base in ours), "Exception")


def drawn(text: str) -> dict[str, str]:
    """The parent of each name in a tree that is drawn with box characters."""
    parents, path = {}, ["Exception"]
    for match in _LINE.finditer(text):
        depth = len(match[1]) // 4
        path[depth + 1 :] = [match[2]]
        parents[match[2]] = path[depth]
    return parents


def changes(tree: dict[str, str], classes: dict[str, tuple[str, str]]) -> list[str]:
    """What has to be changed in the tree, a line each."""
    found = [
        f"add {name} ({module}) below {parent}"
        for name, (parent, module) in classes.items()
        if name not in tree
    ]
    found += [f"remove {name}: no such class" for name in tree if name not in classes]
    found += [
        f"move {name} ({classes[name][1]}) from below {tree[name]} to below {classes[name][0]}"
        for name in tree
        if name in classes and tree[name] != classes[name][0]
    ]
    return sorted(found)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    wrong = changes(drawn(errors.__doc__ or ""), defined())
    assert not wrong, "in the docstring of shared/clip_shared/errors.py:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("tree", "wrong"),
    [
        ("    ├── A\n    │   └── B\n    └── C", []),
        ("    ├── A\n    │   └── B", ["add C (m) below Exception"]),
        ("    ├── A\n    ├── B\n    └── C", ["move B (m) from below Exception to below A"]),
        ("    ├── A   a\n    │   └── B\n    │       └── D\n    └── C", ["remove D: no such class"]),
    ],
)
def test_a_mismatch_says_which_line_to_change(tree: str, wrong: list[str]) -> None:
    classes = {"A": ("Exception", "m"), "B": ("A", "m"), "C": ("Exception", "m")}
    assert changes(drawn(tree), classes) == wrong
