"""What a trial tells of its epoch, in a table that stands in for the cluster's."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import RpcError

from orchestrator.run.ledger import VariantFolder
from orchestrator.run.progress import Progress
from orchestrator.trials import telling
from orchestrator.trials.telling import Teller, forget, told


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, stopped_clock: Any) -> Any:
    table: dict[bytes, bytes] = {}
    monkeypatch.setattr(
        telling, "_internal_kv_put", lambda key, value, overwrite, namespace: table.update({key: value})
    )
    monkeypatch.setattr(telling, "_internal_kv_get", lambda key, namespace: table.get(key))
    monkeypatch.setattr(telling, "_internal_kv_del", lambda key, namespace: table.pop(key, None))
    monkeypatch.setattr(telling, "setproctitle", Mock())
    monkeypatch.setattr(telling, "getproctitle", lambda: "ray::ImplicitFunc.train amn epoch 2")
    found = stopped_clock("orchestrator.trials.telling")
    found.monotonic = lambda: found.now
    return found


def test_a_trial_tells_at_most_once_a_second(clock: Any) -> None:
    teller = Teller("amn", epoch=3, steps=40, batch_size=32)
    clock.now += 0.5
    teller.tell(1, 0.9)
    assert told("amn") is None
    clock.now += 1.5
    teller.tell(4, 2.0)
    expected = Progress(epoch=3, step=4, steps=40, loss=0.5, windows_per_second=64.0, seconds=2.0)
    assert told("amn") == expected
    assert expected.share == 0.1
    clock.now += 0.9
    teller.tell(8, 2.0)
    assert told("amn") == expected


def test_the_process_is_named_after_its_trial_and_epoch(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = Mock()
    monkeypatch.setattr(telling, "setproctitle", titles)
    teller = Teller("aaaa/amn@20", epoch=3, steps=40, batch_size=32)
    clock.now += 2.0
    teller.tell(1, 0.9)
    titles.assert_called_once_with("ray::ImplicitFunc.train amn@20 epoch 3")


def test_steps_of_an_earlier_attempt_do_not_count_as_speed(clock: Any) -> None:
    teller = Teller("amn", epoch=1, steps=10, batch_size=32, begun_at=4)
    clock.now += 2.0
    teller.tell(6, 3.0)
    found = told("amn")
    assert found is not None
    assert (found.step, found.loss, found.windows_per_second) == (6, 0.5, 32.0)


def test_what_was_told_is_forgotten(clock: Any) -> None:
    teller = Teller("amn", epoch=1, steps=10, batch_size=32)
    clock.now += 2.0
    teller.tell(1, 1.0)
    forget(["amn", "mamba_s"])
    assert told("amn") is None


def test_a_table_that_does_not_answer_ends_no_training(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Mock(side_effect=RpcError("the head is gone"))
    for name in ("_internal_kv_put", "_internal_kv_get", "_internal_kv_del"):
        monkeypatch.setattr(telling, name, gone)
    teller = Teller("amn", epoch=1, steps=10, batch_size=32)
    clock.now += 2.0
    teller.tell(1, 1.0)
    assert told("amn") is None
    forget(["amn"])
    assert gone.call_count == 3


def test_the_same_variant_in_two_runs_is_two_trials(tmp_path: Path) -> None:
    one, other = (VariantFolder(tmp_path / "amn", f"{run}/amn").trial for run in ("aaaa", "bbbb"))
    assert (one, other) == ("aaaa/amn", "bbbb/amn")
    assert VariantFolder(tmp_path / "amn").trial == "amn"
