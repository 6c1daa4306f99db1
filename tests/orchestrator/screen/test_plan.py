"""The plan's parts as text: what a launch would find in the run folder, what a variant costs, which rules there are."""

from types import SimpleNamespace
from typing import Any

import pytest

from data.io import write_json
from models.spec.costs import flops_per_window, num_parameters
from orchestrator.cluster.admission import ClusterResources, Node
from orchestrator.run import manifest
from orchestrator.screen import plan
from orchestrator.state import Prepared

EXPERIMENT = """
name: planned
variants:
  mamba_s: {d_model: 32, d_state: 16, head_dim: 16, training: {epochs: 2}}
  amn: {d_model: 32, training: {workers: 2}}
training: {epochs: 4, batch_size: 64}
smoke: {epochs: [2], queries: 1000}
gates:
  smoke: [{epoch: 2, prune_unless: ["r@5 >= 0.1"], continue_if: ["r@1 >= 0.2"]}]
  success_if: ["r@5 >= 0.3"]
  ready_if: ["p95_ms <= 2"]
"""


@pytest.fixture
def prepared(prepared_from: Any) -> Prepared:
    return prepared_from(EXPERIMENT)


def test_a_variants_line_has_its_size_and_what_its_training_costs(prepared: Prepared) -> None:
    payload = prepared.data.payload
    data: Any = SimpleNamespace(payload=payload, splits=SimpleNamespace(train=range(64_000_000)))
    header, _, mamba, amn = plan.variant_table(prepared.config, data).splitlines()
    assert header.split()[:6] == ["variant", "model", "parameters", "workers", "epochs", "batch"]
    # 64 million windows in batches of 64; the backward pass costs twice the forward pass.
    for line, name, workers, epochs in ((mamba, "mamba_s", "1", 2), (amn, "amn", "2", 4)):
        spec = prepared.config.resolved_variants[name].spec
        tflop = f"{3 * flops_per_window(spec, 16, 5) * 64_000_000 * epochs / 1e12:,.1f}"
        parameters = f"{num_parameters(spec, 16):,}"
        cells = [name, name, parameters, workers, str(epochs), "64", "1,000,000", "x", str(epochs), tflop]
        assert line.split()[:-1] == cells


def test_every_rule_is_told_with_what_it_decides(prepared: Prepared) -> None:
    assert plan.rule_lines(prepared.config).splitlines() == [
        "smoke evaluations: epochs [2], 1,000 queries",
        "gate, epoch 2: prune unless r@5 >= 0.1",
        "gate, epoch 2: r@1 >= 0.2, else continue",
        "final, REJECT unless r@5 >= 0.3",
        "final, PRODUCTION READY only if p95_ms <= 2",
    ]


def test_the_run_folder_is_new_unfinished_complete_or_anothers(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, ledger = prepared.config, prepared.ledger
    hashes = {"data_sha256": "d" * 64}
    monkeypatch.setattr(plan, "input_hashes", lambda config, data: hashes)

    def state(config: Any = config) -> str:
        return plan.folder_state(ledger, config, prepared.data)

    assert state() == "new"
    ledger.open(config.resolved(), manifest.manifest(config, hashes))
    assert state() == "unfinished: a launch continues it"
    write_json(ledger.results, {})
    assert state() == "complete: a launch prints its table again"
    changed = state(config.model_copy(update={"seed": 4}))
    assert changed.startswith("a launch refuses it: expected the run's own configuration, got seed: 0 -> 4; give")


def test_a_variant_that_cannot_fit_is_refused_by_the_plan(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "check_inputs", lambda config: None)
    monkeypatch.setattr(plan, "prepare_data", lambda *_, **__: prepared.data)
    monkeypatch.setattr(plan, "check_data", lambda *_: [])
    one_cpu = ClusterResources(nodes=(Node(cpus=1, gpus=0, memory_gib=64),))
    with pytest.raises(ValueError, match=r"variants\.amn: expected at most 1 CPUs"):
        plan.make_plan(prepared.config, prepared.ledger, one_cpu, tell=print)
