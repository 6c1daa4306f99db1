"""Where the wall time went: phases that leave no second out, and each trial's own seconds, worked out by hand."""

from pathlib import Path
from typing import Any

import pytest

from data.io import write_json
from orchestrator.run.timeline import Timeline, earlier_launches, slot_freed


@pytest.fixture
def clock(stopped_clock: Any) -> Any:
    return stopped_clock("orchestrator.run.timeline")


def trained(timeline: Timeline, name: str, *, started: float, epoch: float, first: float, ended: float) -> None:
    """Mark a trial's events in seconds since the run's start."""
    for event, at in (("started_s", started), ("first_epoch_s", epoch), ("first_step_s", first), ("ended_s", ended)):
        timeline.mark(name, event, 1000.0 + at)


def test_phases_follow_each_other_and_add_up_to_the_wall_time(clock: Any) -> None:
    timeline = Timeline()
    for name, seconds in (("data", 2.0), ("training", 30.0), ("final", 5.5)):
        timeline.phase(name)
        clock.now += seconds
    summary = timeline.summary()
    assert summary["wall_s"] == 37.5
    assert [(phase["name"], phase["start_s"], phase["seconds"]) for phase in summary["phases"]] == [
        ("data", 0.0, 2.0),
        ("training", 2.0, 30.0),
        ("final", 32.0, 5.5),
    ]


def test_a_trials_time_is_waiting_start_up_measured_phases_and_the_rest(clock: Any) -> None:
    timeline = Timeline()
    timeline.phase("data")
    clock.now = 1003.0
    timeline.phase("training")
    trained(timeline, "a", started=4.0, epoch=9.5, first=10.0, ended=20.0)
    timeline.add("a", {"step": 3.0, "smoke": 1.0})
    timeline.add("a", {"step": 4.0})
    clock.now = 1025.0
    # Training began at 3: 1 s of waiting, 5.5 of start-up; of the 10.5 s from the first epoch's begin to the end,
    # 7 + 1 were measured, the half second of the first step among them.
    expected = {"step": 7.0, "smoke": 1.0, "waiting": 1.0, "start_up": 5.5, "other": 2.5}
    for _ in range(2):
        summary = timeline.summary()
        assert summary["trials"]["a"]["seconds"] == expected
    assert sum(expected.values()) == 20.0 - 3.0
    assert summary["launch_to_first_step_s"] == 10.0
    assert summary["step_share_of_slots"] == pytest.approx(7.0 / 25.0)


def test_a_trial_that_waits_for_a_slot_waits_until_another_one_ends(clock: Any) -> None:
    timeline = Timeline()
    timeline.phase("training")
    trained(timeline, "a", started=0.0, epoch=4.0, first=4.5, ended=20.0)
    # Handed to Tune at 5, long before its slot was free.
    trained(timeline, "b", started=5.0, epoch=22.0, first=22.5, ended=30.0)
    clock.now = 1030.0
    summary = timeline.summary()
    assert summary["gaps_s"] == [2.5]
    assert summary["trials"]["a"]["seconds"] == {"waiting": 0.0, "start_up": 4.0, "other": 16.0}
    assert summary["trials"]["b"]["seconds"] == {"waiting": 20.0, "start_up": 2.0, "other": 8.0}


def test_only_the_first_time_of_an_event_counts(clock: Any) -> None:
    timeline = Timeline()
    timeline.mark("a", "started_s", 1004.0)
    timeline.mark("a", "started_s", 1009.0)
    clock.now = 1006.0
    timeline.mark("a", "ended_s")
    assert timeline.trials["a"] == {"started_s": 4.0, "ended_s": 6.0}


def test_a_trial_that_never_ran_a_step_has_start_up_only(clock: Any) -> None:
    timeline = Timeline()
    timeline.phase("training")
    timeline.mark("a", "started_s", 1001.0)
    timeline.mark("a", "ended_s", 1004.0)
    timeline.mark("b", "started_s", 1002.0)
    clock.now = 1010.0
    summary = timeline.summary()
    assert summary["trials"]["a"]["seconds"] == {"waiting": 1.0, "start_up": 3.0, "other": 0.0}
    assert "seconds" not in summary["trials"]["b"]
    assert summary["launch_to_first_step_s"] is None
    assert summary["gaps_s"] == []


def test_facts_stand_beside_the_phases(clock: Any) -> None:
    timeline = Timeline()
    timeline.facts["index_builds"] = 1
    assert timeline.summary()["index_builds"] == 1


def test_a_relaunch_keeps_the_launches_before_it_oldest_first(clock: Any, tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    assert earlier_launches(path) == []
    for phase in ("first", "second", "third"):
        timeline = Timeline(earlier_launches(path))
        timeline.phase(phase)
        write_json(path, timeline.summary())
    first, second, third = earlier_launches(path)
    assert [launch["phases"][0]["name"] for launch in (first, second, third)] == ["first", "second", "third"]
    assert not any("earlier_launches" in launch for launch in (first, second, third))


@pytest.mark.parametrize(
    ("slots", "trials", "freed"),
    [
        (1, {}, {}),
        (1, {"a": (10, 20)}, {}),
        # One slot: each trial waits for the one before it.
        (1, {"a": (10, 20), "b": (22, 30), "c": (31, 40)}, {"b": 20, "c": 30}),
        # Two slots: the first end frees the slot of the third trial, the second end that of the fourth.
        (2, {"a": (10, 20), "b": (11, 25), "c": (22, 40), "d": (28, 41)}, {"c": 20, "d": 25}),
        # The order in which they are listed says nothing.
        (2, {"d": (28, 41), "c": (22, 40), "b": (11, 25), "a": (10, 20)}, {"c": 20, "d": 25}),
        (3, {"a": (10, 20), "b": (11, 25), "c": (12, 30)}, {}),
    ],
)
def test_a_slot_is_freed_by_the_earliest_end_not_yet_taken(
    slots: int, trials: dict[str, tuple[float, float]], freed: dict[str, float]
) -> None:
    events = {name: {"first_step_s": first, "ended_s": end} for name, (first, end) in trials.items()}
    assert slot_freed(events, slots) == freed


def test_trials_without_a_first_step_free_no_slot() -> None:
    trials = {
        "a": {"first_step_s": 10.0, "ended_s": 20.0},
        "failed": {"ended_s": 12.0},
        "b": {"first_step_s": 23.0, "ended_s": 30.0},
    }
    assert slot_freed(trials, 1) == {"b": 20.0}
