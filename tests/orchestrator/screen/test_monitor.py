"""What a person sees while trials run: plain lines without a terminal, the live table's content with one."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from evaluation.ending import Ending
from orchestrator.gates import TrialDecision
from orchestrator.run.ledger import TrialEnd
from orchestrator.run.progress import Progress
from orchestrator.screen.monitor import Monitor


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(stopped_clock: Any) -> Any:
    return stopped_clock("orchestrator.screen.monitor")


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def monitor(clock: Any, stream: io.StringIO) -> Monitor:
    return Monitor(stream, {"mamba_s": 4, "amn": 4})


def decision(action: str, epoch: int = 2, reason: str = "r@5 0.1 (limit >= 0.3, failed)") -> TrialDecision:
    return TrialDecision(epoch=epoch, rule="r", value=None, limit=None, passed=False, action=action, reason=reason)


def rendered(monitor: Monitor, width: int = 120) -> list[str]:
    """The live table as lines of text."""
    out = io.StringIO()
    Console(file=out, width=width).print(monitor.table())
    return [line.rstrip() for line in out.getvalue().splitlines()]


def row(monitor: Monitor, name: str) -> list[str]:
    (line,) = [line for line in rendered(monitor) if line.startswith(f"{name} ")]
    return re.split(r"\s{2,}", line)


def smoke_record(epoch: int, loss: float = 0.5) -> dict[str, object]:
    return {"epoch": epoch, "loss": loss, "smoke": {"r@5": 0.123, "contain@50": 0.456}, "first_step_at": 1000.0}


# ---- without a terminal


def test_a_trials_life_is_one_line_a_change_of_state(monitor: Monitor, stream: io.StringIO, clock: Any) -> None:
    with monitor:
        monitor.started("mamba_s")
        clock.now = 1012.4
        monitor.epoch("mamba_s", {"epoch": 1, "loss": 0.9})
        monitor.epoch("mamba_s", smoke_record(2))
        monitor.decided("mamba_s", decision("continue"))
        monitor.decided("mamba_s", decision("warn", reason="marginal: r@5 0.1 (limit >= 0.3, failed)"))
        clock.now = 1100.0
        monitor.decided("mamba_s", decision("finish", 4, "ran all its epochs"))
    assert stream.getvalue().splitlines() == [
        "  [    0 s] mamba_s: started",
        "  [   12 s] mamba_s: epoch 1/4, loss 0.900",
        "  [   12 s] mamba_s: epoch 2/4, loss 0.500, R@5 12.3 %, Cont@50 45.6 %",
        "  [   12 s] mamba_s: warning at epoch 2: marginal: r@5 0.1 (limit >= 0.3, failed)",
        "  [  100 s] mamba_s: finished at epoch 4: ran all its epochs",
    ]


@pytest.mark.parametrize(
    ("action", "word"),
    [
        ("finish", "finished"),
        ("early_stop", "early stopped"),
        ("prune", "pruned"),
        ("diverge", "diverged"),
        ("fail", "failed"),
    ],
)
def test_an_end_is_told_in_its_own_word(monitor: Monitor, stream: io.StringIO, action: str, word: str) -> None:
    monitor.decided("amn", decision(action, 3, "so it was"))
    assert stream.getvalue() == f"  [    0 s] amn: {word} at epoch 3: so it was\n"


def test_a_trial_that_fails_two_rules_is_pruned_in_one_line(monitor: Monitor, stream: io.StringIO) -> None:
    monitor.decided("amn", decision("prune", reason="first"))
    monitor.decided("amn", decision("prune", reason="second"))
    assert stream.getvalue().count("pruned") == 1


def test_a_long_line_stays_one_line_and_keeps_its_signs(monitor: Monitor, stream: io.StringIO) -> None:
    text = "[/tmp/x] :warning: [bold]" + "long " * 60
    monitor.say(text)
    assert stream.getvalue() == text + "\n"


def test_a_smoke_metric_that_was_not_measured_is_left_blank(monitor: Monitor, stream: io.StringIO) -> None:
    monitor.epoch("amn", {"epoch": 2, "loss": None, "smoke": {"r@5": None}})
    assert stream.getvalue().endswith("amn: epoch 2/4, loss , R@5 , Cont@50 \n")


def test_what_an_earlier_launch_left_is_shown(monitor: Monitor, stream: io.StringIO) -> None:
    monitor.restored("mamba_s", [smoke_record(2)], TrialEnd(ending=Ending.PRUNED, epoch=2, reason="r@5 too low"))
    monitor.restored("amn", [{"epoch": 1, "loss": 0.7}], None)
    monitor.started("amn")
    assert stream.getvalue().splitlines() == [
        "  mamba_s: PRUNED at epoch 2, kept from the earlier launch",
        "  [    0 s] amn: started again after epoch 1",
    ]
    assert row(monitor, "mamba_s")[1:3] == ["pruned", "2/4"]


# ---- with a terminal


def test_on_a_terminal_states_go_to_the_table_and_not_to_lines(clock: Any) -> None:
    terminal = Terminal()
    monitor = Monitor(terminal, {"amn": 4})
    monitor.started("amn")
    assert terminal.getvalue() == ""
    with monitor:
        pass
    assert "starting" in terminal.getvalue()


def test_a_waiting_trial_shows_its_name_and_its_epochs(monitor: Monitor) -> None:
    assert row(monitor, "amn") == ["amn", "waiting", "0/4"]


def test_a_running_trial_shows_loss_smoke_metrics_gates_and_the_time_left(monitor: Monitor, clock: Any) -> None:
    monitor.started("amn")
    clock.now = 1010.0
    monitor.epoch("amn", {"epoch": 1, "loss": 0.9, "first_step_at": 1000.0})
    clock.now = 1020.0
    monitor.epoch("amn", smoke_record(2))
    monitor.decided("amn", decision("continue"))
    # Two epochs took 20 s, two are left.
    assert row(monitor, "amn") == ["amn", "running", "2/4", "0.500", "12.3 %", "45.6 %", "passed", "20 s"]


def test_the_time_left_of_a_resumed_trial_counts_this_launchs_epochs_only(monitor: Monitor, clock: Any) -> None:
    monitor.restored("amn", [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.9}], None)
    monitor.started("amn")
    clock.now = 1030.0
    monitor.epoch("amn", {"epoch": 3, "loss": 0.8, "first_step_at": 1020.0})
    assert row(monitor, "amn")[-1] == "10 s"


def test_epoch_0_of_a_fitted_line_does_not_make_an_epoch_seem_short(monitor: Monitor, clock: Any) -> None:
    monitor.started("amn")
    monitor.epoch("amn", {"epoch": 0, "seconds": {}})
    begun = clock.now
    clock.now += 10.0
    monitor.epoch("amn", {"epoch": 1, "loss": 1.0, "seconds": {}, "first_step_at": begun})
    assert row(monitor, "amn")[:3] == ["amn", "running", "1/4"]
    assert "30 s" in row(monitor, "amn")


def test_a_trial_that_goes_back_to_an_earlier_checkpoint_says_so(monitor: Monitor, stream: io.StringIO) -> None:
    monitor.epoch("amn", {"epoch": 2, "loss": 1.0, "seconds": {}, "went_back": "last.pt: damaged; went back"})
    assert "  amn: last.pt: damaged; went back\n" in stream.getvalue()


def test_an_ended_trial_shows_why_and_no_time_left(monitor: Monitor) -> None:
    monitor.epoch("amn", smoke_record(2))
    monitor.decided("amn", decision("prune"))
    shown = row(monitor, "amn")
    assert (shown[1], shown[6:]) == ("pruned", ["failed"])
    assert rendered(monitor)[-1] == "  amn pruned: r@5 0.1 (limit >= 0.3, failed)"


def test_the_trials_that_run_stand_first_and_those_that_ended_last(clock: Any, stream: io.StringIO) -> None:
    monitor = Monitor(stream, {f"trial-{number:02}": 4 for number in range(24)})
    for number in range(10):
        monitor.decided(f"trial-{number:02}", decision("finish", 4, "ran all its epochs"))
    monitor.started("trial-10")
    names = [line.split()[0] for line in rendered(monitor, width=80) if line.startswith("trial-")]
    assert names == ["trial-10", *(f"trial-{number:02}" for number in (*range(11, 24), *range(10)))]


def test_a_marginal_trial_is_marked(monitor: Monitor) -> None:
    monitor.epoch("amn", smoke_record(2))
    monitor.decided("amn", decision("warn"))
    monitor.decided("amn", decision("continue"))
    assert row(monitor, "amn")[6] == "marginal"


def test_a_reason_with_brackets_is_text_and_no_markup(monitor: Monitor) -> None:
    # An error's text may hold anything; read as markup, [/tmp/x] closes a tag that was never opened.
    monitor.decided("amn", decision("fail", reason="no file [/tmp/x] in [red]"))
    assert rendered(monitor)[-1] == "  amn failed: no file [/tmp/x] in [red]"


def test_the_table_fits_an_80_column_terminal(monitor: Monitor) -> None:
    monitor.epoch("mamba_s", smoke_record(2))
    monitor.decided("mamba_s", decision("warn"))
    lines = rendered(monitor, width=80)
    assert max(map(len, lines)) <= 80
    assert any("mamba_s" in line and "running" in line and "45.6 %" in line and "marginal" in line for line in lines)


# ---- inside an epoch


def inside(step: int, *, epoch: int = 1, seconds: float = 10.0) -> Progress:
    return Progress(epoch=epoch, step=step, steps=100, loss=0.7, windows_per_second=1234.5, seconds=seconds)


def test_a_trial_shows_how_far_it_is_inside_its_epoch_and_what_is_left(monitor: Monitor, clock: Any) -> None:
    monitor.started("amn")
    clock.now = 1012.0
    monitor.progressed("amn", inside(20))  # a fifth of an epoch took 10 s: 3.8 epochs are left
    assert row(monitor, "amn") == ["amn", "running", "0.2/4", "0.700", "1,234", "3 min"]


def test_a_report_takes_the_place_of_what_was_told_before(monitor: Monitor, clock: Any) -> None:
    monitor.started("amn")
    clock.now = 1012.0
    monitor.progressed("amn", inside(50))
    clock.now = 1022.0
    monitor.epoch("amn", {"epoch": 1, "loss": 0.9, "first_step_at": 1002.0})
    assert row(monitor, "amn")[2] == "1/4"
    monitor.progressed("amn", inside(90))  # of the epoch that is over
    assert row(monitor, "amn")[2] == "1/4"
    clock.now = 1032.0
    monitor.progressed("amn", inside(50, epoch=2))
    assert row(monitor, "amn")[2] == "1.5/4"
    assert row(monitor, "amn")[-1] == "50 s"  # 1.5 epochs took 30 s


def test_a_trial_that_has_ended_moves_no_more(monitor: Monitor) -> None:
    monitor.decided("amn", decision("prune"))
    monitor.progressed("amn", inside(50, epoch=1))
    assert row(monitor, "amn")[1:3] == ["pruned", "0/4"]


def test_without_a_terminal_a_long_epoch_is_told_once_a_minute(
    monitor: Monitor, stream: io.StringIO, clock: Any
) -> None:
    monitor.started("amn")
    for second in range(10, 140, 10):
        clock.now = 1000.0 + second
        monitor.progressed("amn", inside(second // 2, seconds=float(second)))
    assert stream.getvalue().splitlines() == [
        "  [    0 s] amn: started",
        "  [   60 s] amn: step 30 of 100 in epoch 1/4, loss 0.700, 1,234 windows/s",
        "  [  120 s] amn: step 60 of 100 in epoch 1/4, loss 0.700, 1,234 windows/s",
    ]


def test_short_epochs_are_told_by_their_ends_alone(monitor: Monitor, stream: io.StringIO, clock: Any) -> None:
    monitor.started("amn")
    for epoch in range(1, 4):
        for second in (10, 20, 30):
            clock.now += 10.0
            monitor.progressed("amn", inside(3 * second, epoch=epoch, seconds=float(second)))
        monitor.epoch("amn", {"epoch": epoch, "loss": 0.9, "first_step_at": 1000.0})
    assert [line.split("amn: ")[1] for line in stream.getvalue().splitlines()] == [
        "started",
        *(f"epoch {epoch}/4, loss 0.900" for epoch in range(1, 4)),
    ]


def test_the_time_left_of_a_run_gives_waiting_trials_the_pace_of_the_others(clock: Any, stream: io.StringIO) -> None:
    monitor = Monitor(stream, {"dear": 4, "cheap": 4}, costs={"dear": 2.0, "cheap": 1.0}, slots=1)
    assert monitor.left_s() is None
    monitor.started("dear")
    clock.now = 1020.0
    monitor.epoch("dear", {"epoch": 1, "loss": 0.9, "first_step_at": 1000.0})
    # Three epochs of 20 s, then four of 10 s.
    assert monitor.left_s() == pytest.approx(100.0)
    assert rendered(monitor)[0] == "20 s, at most 2 min left"
    monitor.decided("dear", decision("prune"))
    assert monitor.left_s() == pytest.approx(40.0)


def test_slots_share_what_is_left_but_no_trial_is_cut_in_two(clock: Any, stream: io.StringIO) -> None:
    monitor = Monitor(stream, {"a": 4, "b": 4, "c": 4}, slots=2)
    for name in ("a", "b"):
        monitor.started(name)
        clock.now += 10.0
        monitor.epoch(name, {"epoch": 1, "loss": 0.9, "first_step_at": clock.now - 10.0})
    assert monitor.left_s() == pytest.approx((30 + 30 + 40) / 2)
    monitor.decided("a", decision("prune"))
    monitor.decided("b", decision("prune"))
    assert monitor.left_s() == pytest.approx(40.0)
