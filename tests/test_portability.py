"""The packages on a system that is not Linux, as far as it can be played here."""

import subprocess
import sys
import tomllib

from packaging.requirements import Requirement

from tests.pins import FILES, ROOT, entries, pinned

PROGRAM = """
import importlib, sys
from unittest.mock import MagicMock
from pathlib import Path
import pandas, pyarrow.parquet, ray.data, ray.train.torch, ray.tune, rich, scipy.stats, tabulate, torch
import torch.utils.data.distributed
import models.cpu.kernels

sys.modules["faiss"] = MagicMock()  # never beside torch
sys.platform = "darwin"

def only_linux_has_these(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(arguments[0])
    if event == "ctypes.dlsym" and arguments[1] in {"mallopt", "madvise"}:
        raise AttributeError(arguments[1])

sys.addaudithook(only_linux_has_these)
for package in ("data", "models", "evaluation", "orchestrator"):
    for file in sorted(Path(package).rglob("*.py")):
        if file.name != "__main__.py":
            importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))

from models.cpu.memory import keep_freed_memory
assert not keep_freed_memory()
"""


def test_every_module_can_be_imported_on_macos_without_proc_and_mallopt() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_the_project_asks_for_is_pinned_and_each_pin_names_its_files_by_hash() -> None:
    for path in FILES:
        for entry in entries(path.read_text(encoding="utf-8")):
            assert "--hash=sha256:" in entry, entry
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = pinned()
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        asked = Requirement(text)
        versions = [next(iter(pin.specifier)).version for pin in pins if pin.name.lower() == asked.name.lower()]
        assert any(asked.specifier.contains(version) for version in versions), text
