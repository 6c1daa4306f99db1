"""Decisions on planted variants."""

from functools import partial

import numpy as np
import pytest

from evaluation.statistics.significance import Outcomes
from evaluation.statistics.verdict import decide as decide_fully

decide = partial(decide_fully, num_resamples=200)

GATE = {"rule": "r@5 >= 0.40", "value": 0.5, "limit": 0.4, "passed": True}
FAILED_GATE = {"rule": "contain@50 >= 0.60", "value": 0.55, "limit": 0.6, "passed": False}


def planted(share, seed, num_queries=2000):
    ranks = (np.random.default_rng(seed).random(num_queries) < share).astype(np.int32)
    return Outcomes(ranks, ranks, np.zeros(num_queries))


def row(name, **other):
    plain = {"variant": name, "kind": "variant", "status": "FINISHED", "reason": "", "gates": [GATE]}
    return plain | {"params": 2_000_000, "p95_ms": 1.0, "ci": {"p95_ms": [0.9, 1.1]}, "r@5": 0.4} | other


AMN = row("amn", kind="baseline", gates=[])


def verdict_of(variant_share, amn_share, **other):
    rows = [row("mamba_s", **other), AMN]
    decision = decide(rows, {"mamba_s": planted(variant_share, 1), "amn": planted(amn_share, 2)})
    return decision.verdicts["mamba_s"]


def test_passing_gates_and_beating_the_learned_baseline_is_production_ready():
    found = verdict_of(0.5, 0.3)
    assert found.word == "PRODUCTION READY"
    assert "R@5 50." in found.why
    assert "against amn 3" in found.why
    assert "difference +" in found.why


def test_passing_gates_without_a_difference_to_the_baseline_is_a_tie_with_what_could_have_been_found():
    found = verdict_of(0.4, 0.4)
    assert found.word == "TIE"
    assert "detectable" in found.why


def test_passing_gates_below_the_baseline_is_success_and_says_by_how_much():
    found = verdict_of(0.3, 0.5)
    assert found.word == "SUCCESS"
    assert "difference -" in found.why


def test_a_failed_final_gate_rejects_with_rule_and_value():
    found = verdict_of(0.9, 0.1, gates=[GATE, FAILED_GATE])
    assert found.word == "REJECT"
    assert found.why == "contain@50 >= 0.60: got 0.55"


def test_a_gate_on_a_missing_metric_rejects():
    found = verdict_of(0.9, 0.1, gates=[FAILED_GATE | {"value": None}])
    assert found.why == "contain@50 >= 0.60: got nothing"


def test_a_pruned_variant_is_rejected_with_its_reason_and_cannot_be_best():
    rows = [row("mamba_s", status="PRUNED", reason="r@5 at epoch 4"), AMN]
    decision = decide(rows, {"amn": planted(0.3, 2)})
    assert decision.best is None
    assert decision.headline == "No variant survived."
    assert decision.verdicts["mamba_s"].why == "PRUNED: r@5 at epoch 4"


def test_without_a_reference_passing_the_gates_is_success():
    decision = decide([row("mamba_s")], {"mamba_s": planted(0.5, 1)})
    assert decision.verdicts["mamba_s"].word == "SUCCESS"
    assert decision.best == "mamba_s"


@pytest.mark.parametrize(("reference", "word"), [(0.4, "PRODUCTION READY"), (0.5, "TIE"), (0.6, "SUCCESS")])
def test_a_given_reference_value_is_held_against_the_variants_own_interval(reference, word):
    decision = decide([row("mamba_s")], {"mamba_s": planted(0.5, 1)}, reference=reference)
    assert decision.verdicts["mamba_s"].word == word


def test_a_planted_winner_is_best_however_slow_and_large_it_is():
    rows = [row("slow", p95_ms=9.0, ci={}, params=9_000_000), row("fast", p95_ms=0.1, ci={}, params=1)]
    decision = decide(rows, {"slow": planted(0.5, 1), "fast": planted(0.3, 2)})
    assert decision.best == "slow"
    assert decision.tie_group == {"slow": 1, "fast": 2}
    assert "Tied" not in decision.headline


def test_among_ties_the_faster_search_wins_and_the_rule_is_printed():
    rows = [row("slow", p95_ms=2.0, ci={"p95_ms": [1.9, 2.1]}, params=1), row("fast")]
    decision = decide(rows, {"slow": planted(0.40, 1), "fast": planted(0.40, 2)})
    assert decision.best == "fast"
    assert "Tied with slow; among ties the lower P95" in decision.headline


def test_times_whose_intervals_overlap_are_equal_and_fewer_parameters_win():
    rows = [row("large", p95_ms=0.99, params=5_000_000), row("small", p95_ms=1.01, params=1_000_000)]
    assert decide(rows, {"large": planted(0.40, 1), "small": planted(0.40, 2)}).best == "small"


def test_a_variant_that_fails_its_gates_is_never_best():
    good, failing = row("good"), row("failing", gates=[FAILED_GATE])
    outcomes = {"good": planted(0.3, 1), "failing": planted(0.5, 2)}
    assert decide([good, failing], outcomes).best == "good"
    rejected = decide([failing], {"failing": outcomes["failing"]})
    assert rejected.best is None
    assert "contain@50 >= 0.60" in rejected.verdicts["failing"].why


def test_the_learned_baseline_is_compared_but_never_best():
    decision = decide([row("mamba_s"), AMN], {"mamba_s": planted(0.3, 1), "amn": planted(0.6, 2)})
    assert decision.best == "mamba_s"
    assert decision.pairs[0].better == "amn"


def test_untrained_baselines_do_not_enlarge_the_family_of_pairs():
    rows = [row("mamba_s"), AMN, row("last_vector", kind="baseline"), row("context_mean", kind="baseline")]
    decision = decide(rows, {name["variant"]: planted(0.3, place) for place, name in enumerate(rows)})
    assert [(pair.a, pair.b) for pair in decision.pairs] == [("mamba_s", "amn")]


def test_a_failed_condition_of_readiness_does_not_reject():
    found = verdict_of(0.5, 0.3, gates=[GATE, FAILED_GATE | {"stage": "ready"}])
    assert found.word == "SUCCESS"
    assert "not ready: contain@50 >= 0.60: got 0.55" in found.why


def test_the_decision_is_written_into_the_rows():
    rows = [row("mamba_s"), AMN | {}, row("last_vector", kind="baseline", gates=[])]
    decide(rows, {"mamba_s": planted(0.5, 1), "amn": planted(0.3, 2), "last_vector": planted(0.1, 3)}).apply(rows)
    assert (rows[0]["verdict"], rows[0]["tie_group"]) == ("PRODUCTION READY", 1)
    assert not [one["variant"] for one in rows[1:] if "verdict" in one or "tie_group" in one]
