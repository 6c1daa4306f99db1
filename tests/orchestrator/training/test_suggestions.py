"""Settings that Optuna draws, generation by generation: a function of what was tried, and of nothing else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from data.io import append_json_line
from evaluation.ending import Ending
from orchestrator.gates import ended
from orchestrator.run.relaunch import as_launched_before
from orchestrator.state import Prepared
from orchestrator.training import suggestions
from orchestrator.training.suggestions import next_generation, suggest_settings
from tests.orchestrator.training.rounds import Rounds

RATE = "training.optimizer.lr"
SPACE = {RATE: {"loguniform": [1e-5, 1e-1]}, "dropout": [0.0, 0.1, 0.2]}
EXPERIMENT = """
name: searched
variants: {mamba_s: {}, amn: {}}
training: {epochs: 5, early_stopping: null}
smoke: {epochs: []}
search: {sampler: optuna, samples: 5, generation: 2, space: {training.optimizer.lr: {loguniform: [1.0e-5, 1.0e-1]}}}
"""


def near_a_thousandth(settings: Mapping[str, Any]) -> float:
    """Return a score that is best at 1e-3, one unit less a power of ten."""
    return -abs(math.log10(settings[RATE]) + 3)


def draws(num: int, tried: Sequence[tuple[Mapping[str, Any], float | None]], seed: int = 1) -> list[dict[str, Any]]:
    return suggest_settings(SPACE, tried, num, seed=seed)


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna")


TRIED = [({RATE: lr, "dropout": 0.0}, near_a_thousandth({RATE: lr})) for lr in (1e-5, 1e-4, 1e-2, 1e-1)]


@pytest.mark.usefixtures("optuna")
def test_the_same_trials_before_give_the_same_settings_and_other_ones_others() -> None:
    found = draws(4, TRIED)
    assert found == draws(4, TRIED) and len(draws(4, TRIED, seed=2**40)) == 4
    assert found != draws(4, TRIED, seed=2)
    assert found != draws(4, [(settings, -score) for settings, score in TRIED])


@pytest.mark.usefixtures("optuna")
def test_every_setting_lies_in_its_space_and_none_comes_twice() -> None:
    found = draws(8, TRIED)
    assert len(found) == len({tuple(one.items()) for one in found}) == 8
    assert all(1e-5 <= one[RATE] <= 1e-1 and one["dropout"] in SPACE["dropout"] for one in found)


@pytest.mark.usefixtures("optuna")
def test_generations_come_nearer_to_what_did_well() -> None:
    tried = list(TRIED)
    for generation in range(6):
        tried += [(one, near_a_thousandth(one)) for one in draws(4, tried, seed=generation)]
    scores = [score for _, score in tried if score is not None]
    assert sum(scores[-8:]) > sum(scores[4:12])
    assert max(scores) > -0.3  # within a factor of two of the best


@pytest.mark.usefixtures("optuna")
def test_settings_that_an_error_ended_count_as_the_worst() -> None:
    lost = [(settings, None if settings[RATE] == 1e-1 else score) for settings, score in TRIED]
    worst = [(settings, min(-1.0, score) if settings[RATE] == 1e-1 else score) for settings, score in TRIED]
    worst[-1] = (worst[-1][0], min(score for _, score in TRIED[:-1]))
    assert draws(4, lost) == draws(4, worst)
    assert len(draws(4, [(settings, None) for settings, _ in TRIED])) == 4


@pytest.mark.usefixtures("optuna")
def test_a_value_that_rounding_took_out_of_its_range_is_told_as_its_end() -> None:
    space = {RATE: {"uniform": [0.12346, 0.2]}}
    assert len(suggest_settings(space, [({RATE: 0.1234}, 0.5)], 2, seed=1)) == 2


@pytest.mark.usefixtures("optuna")
def test_a_grid_that_is_tried_gives_no_more() -> None:
    space = {"dropout": [0.0, 0.1]}
    assert suggest_settings(space, [({"dropout": 0.0}, 0.5)], 4, seed=1) == [{"dropout": 0.1}]
    assert suggest_settings(space, [({"dropout": 0.0}, 0.5), ({"dropout": 0.1}, 0.4)], 4, seed=1) == []


def scored(prepared: Prepared, scores: Mapping[str, float]) -> None:
    for name, score in scores.items():
        folder = prepared.ledger.variant(name)
        folder.path.mkdir(parents=True, exist_ok=True)
        append_json_line(folder.metrics, {"epoch": 5, "val_soft_r@5": score})
        prepared.ledger.record(name, ended(Ending.FINISHED, 5, "epoch == 5", ""))


def test_a_generation_is_drawn_from_the_scores_and_stays_with_the_run(
    prepared_from: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def suggest(space: Any, tried: Any, num: int, *, seed: int) -> list[dict[str, Any]]:
        asked.append((num, seed, [score for _, score in tried]))
        return [{RATE: 10.0 ** -(len(tried) + place)} for place in range(num)]

    monkeypatch.setattr(suggestions, "suggest_settings", suggest)
    prepared: Prepared = prepared_from(EXPERIMENT)
    prepared.ledger.open(prepared.config.resolved(), {"config_sha256": "c"})
    assert [*prepared.config.trials] == ["mamba_s.1", "mamba_s.2", "amn.1", "amn.2"]
    scored(prepared, {"mamba_s.1": 0.1, "mamba_s.2": 0.2, "amn.1": 0.3, "amn.2": 0.4})
    second = next_generation(prepared)
    assert second is not None
    assert sorted(asked) == sorted([(2, asked[0][1], [0.1, 0.2]), (2, asked[0][1], [0.3, 0.4])])
    trials = second.config.trials_of("mamba_s")
    assert [(one.name, one.generation, one.settings.get(RATE)) for one in trials][2:] == [
        ("mamba_s.3", 2, 1e-2),
        ("mamba_s.4", 2, 1e-3),
    ]
    again = as_launched_before(prepared_from(EXPERIMENT).config, prepared.ledger)
    assert again.trials == second.config.trials and again.fingerprint() == prepared.config.fingerprint()
    third = next_generation(second)
    assert third is not None
    assert [*third.config.trials][4:5] + [*third.config.trials][9:] == ["mamba_s.5", "amn.5"]  # 5 = 2 + 2 + 1
    assert next_generation(third) is None


def test_a_search_by_generations_trains_all_of_them(prepared_from: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestions, "suggest_settings", lambda *_, **__: [{RATE: 2e-4}])
    experiment = EXPERIMENT.replace(", amn: {}", "").replace("samples: 5", "samples: 3, halving: [1, 3]")
    prepared = prepared_from(experiment)
    prepared.ledger.open({}, {})
    rounds = Rounds(prepared, monkeypatch, {"mamba_s.1": 0.1, "mamba_s.2": 0.4, "mamba_s.3": 0.2})
    assert rounds.train() == {
        "mamba_s.1": (Ending.HALVED, 1),
        "mamba_s.2": (Ending.FINISHED, 5),
        "mamba_s.3": (Ending.FINISHED, 5),  # alone in its generation
    }
    assert [names for names, _ in rounds.started][-3:] == [["mamba_s.3"]] * 3


def test_without_a_search_there_is_nothing_to_draw(prepared_from: Any) -> None:
    assert next_generation(prepared_from("name: x\nvariants: {mamba_s: {}}\n")) is None
