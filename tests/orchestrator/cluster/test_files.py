"""What experiments/cluster and experiments/monitoring ask of other programs, as far as it can be known without them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.tracking.gauges import GAUGES, TAGS
from tests.orchestrator.launches import REPOSITORY

EXPERIMENTS = REPOSITORY / "experiments"


def read(name: str) -> Any:
    return yaml.safe_load((EXPERIMENTS / "cluster" / name).read_text())


def test_the_hosts_file_is_what_rays_launcher_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read("ray-cluster.yaml"))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    for word in ("--autoscaling-config=~/ray_bootstrap_config.yaml", "RAY_enable_autoscaler_v2=0"):
        assert word in config["head_start_ray_commands"][-1]
    for role in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in config[f"{role}_start_ray_commands"][-1]


def test_the_rayjob_names_rays_pinned_version_and_an_experiment_of_the_image() -> None:
    spec = read("rayjob.yaml")["spec"]
    (pinned,) = re.findall(r"^ray==(\S+)", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert spec["rayClusterSpec"]["rayVersion"] == pinned
    inside = Path(spec["entrypoint"].split()[3])
    assert (REPOSITORY / inside.relative_to("/next-vector")).is_file()


@pytest.mark.parametrize("panel", json.loads((EXPERIMENTS / "monitoring" / "grafana.json").read_text())["panels"])
def test_a_panel_of_grafana_shows_a_gauge_that_a_run_sets(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        name, labels = re.fullmatch(r"ray_(\w+)\{(.*)\}", target["expr"]).groups()  # type: ignore[union-attr]
        assert name in {gauge for gauge, _ in GAUGES.values()}
        assert set(re.findall(r"(\w+)=", labels)) | set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(
            TAGS
        )
