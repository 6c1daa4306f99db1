"""The house, read from its imports: packages and rooms point down, no circle of files, no crowded room."""

import ast
import subprocess
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {"orchestrator": 3, "evaluation": 2, "models": 1, "data": 0}
"""Package -> floor. A file may import from its own package and from lower floors."""
MODELS_SEE = {"data.errors", "data.io"}
"""What models know of data: how a file is written and which errors are made for people."""
MOST_FILES = 12


def modules() -> dict[str, Path]:
    """Return every module of the four packages by its dotted name; a package is named like its folder."""
    found = {}
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*.py"):
            name = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
            found[name] = file
    return found


MODULES = modules()


def imports_of(file: Path) -> set[str]:
    """Return the modules of ours that a file imports, inside functions too."""
    named = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name for name in inner if name in MODULES} or {node.module}
    return {name for name in named if name in MODULES}


@cache
def imports() -> dict[str, set[str]]:
    """Return the modules of ours that each of them imports."""
    return {name: imports_of(file) for name, file in MODULES.items()}


def first_circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def room(module: str) -> str:
    """Return the room of a module: its sub-package. A file beside the rooms is a room of its own."""
    parts = module.split(".")
    return ".".join(parts[:2])


def test_the_finder_of_circles_finds_one() -> None:
    assert set(first_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert first_circle({"a": {"b"}, "b": set()}) == []


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    file = tmp_path / "late.py"
    file.write_text("def late():\n    from data.config import DataConfig\n    return DataConfig\n", encoding="utf-8")

    assert imports_of(file) == {"data.config"}


def test_no_circle_of_files() -> None:
    assert first_circle(imports()) == []


def test_no_circle_of_rooms() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, imported in imports().items():
        # `python -m evaluation.index` is a command that lives in its room and stands above it.
        if not module.endswith("__main__"):
            rooms[room(module)] |= {room(name) for name in imported} - {room(module)}

    assert first_circle(rooms) == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    package = module.split(".", maxsplit=1)[0]
    for name in imports()[module]:
        other = name.split(".")[0]
        assert other == package or PACKAGES[other] < PACKAGES[package], f"{module} imports {name}"
        assert package != "models" or other == "models" or name in MODELS_SEE, f"{module} imports {name}"


def test_no_folder_is_crowded() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = defaultdict(list)
    for line in tracked.stdout.splitlines():
        if line.split("/")[0] in PACKAGES and line.endswith(".py"):
            files[str(Path(line).parent)].append(line)

    crowded = {folder: len(found) for folder, found in files.items() if len(found) > MOST_FILES}
    assert not crowded


@pytest.mark.parametrize("folder", sorted({str(file.parent.relative_to(REPOSITORY)) for file in MODULES.values()}))
def test_a_room_says_what_it_is_for(folder: str) -> None:
    docstring = ast.get_docstring(ast.parse((REPOSITORY / folder / "__init__.py").read_text(encoding="utf-8")))

    assert docstring and docstring.endswith(".")
