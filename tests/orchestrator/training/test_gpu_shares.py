"""Which GPU a trial gets, asked of a real Ray that believes in two GPUs; nothing is computed on them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.launches import REPOSITORY

pytestmark = pytest.mark.cluster
TRIALS = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
import ray
from ray import tune
from orchestrator.training.tuning import _resources_of

def trial(config):
    folder = Path(config["folder"])
    (folder / config["trial"]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while len(list(folder.iterdir())) < 2:  # both run at once
        time.sleep(0.05)

ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, logging_level=40)
for folder in map(Path, sys.argv[1:]):
    setup = SimpleNamespace(training=SimpleNamespace(workers=1), cpus_per_worker=1, gpus_per_worker=float(folder.name))
    resources = _resources_of(setup)
    tune.Tuner(tune.with_resources(trial, lambda config: resources),
               param_space={"trial": tune.grid_search(["a", "b"]), "folder": str(folder)},
               run_config=tune.RunConfig(storage_path=str(folder.parent / "tune"), verbose=0)).fit()
"""


def test_trials_share_a_gpu_or_have_one_each(tmp_path: Path) -> None:
    shares = {"0.5": ["0", "0"], "1.0": ["0", "1"]}
    folders = [tmp_path / share for share in shares]
    for folder in folders:
        folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, *map(str, folders)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder in folders:
        assert sorted((folder / name).read_text() for name in ("a", "b")) == shares[folder.name]
