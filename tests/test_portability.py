"""The packages on a system that is not Linux, as far as it can be played here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

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
