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

folder, share = Path(sys.argv[1]), float(sys.argv[2])
setup = SimpleNamespace(training=SimpleNamespace(workers=1), cpus_per_worker=1, gpus_per_worker=share)

def trial(config):
    (folder / config["trial"]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while len(list(folder.iterdir())) < 2:  # both run at once
        time.sleep(0.05)

ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, logging_level=40)
space = {"trial": tune.grid_search(["a", "b"])}
tune.Tuner(tune.with_resources(trial, lambda config: _resources_of(setup)), param_space=space,
           run_config=tune.RunConfig(storage_path=str(folder.parent), verbose=0)).fit()
"""


@pytest.mark.parametrize(("share", "gpus"), [(0.5, ["0", "0"]), (1.0, ["0", "1"])], ids=["packed", "spread"])
def test_trials_share_a_gpu_or_have_one_each(tmp_path: Path, share: float, gpus: list[str]) -> None:
    found = tmp_path / "found"
    found.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, str(found), str(share)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted((found / name).read_text() for name in ("a", "b")) == gpus
