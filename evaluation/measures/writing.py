"""How a figure is written wherever people read it: shares in per cent, and a minus only before something."""

import math

from evaluation.measures.metrics import METRICS, split_prefix

UNKNOWN = "no interval"


def per_cent(share: float) -> str:
    """A share in per cent, one decimal."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference of shares in points, with its sign; one that rounds to nothing is `+0.0`."""
    return f"{100 * share:+z.1f}"


def is_share(metric: str) -> bool:
    """Say whether a metric, under whatever prefix, is a share."""
    return METRICS[split_prefix(metric)[1]].unit == "share"


def write_value(value: float, metric: str) -> str:
    """A metric's value: a share as `per_cent`, anything else with three decimals."""
    return per_cent(value) if is_share(metric) else f"{value:.3f}"


def write_gain(value: float, metric: str) -> str:
    """A difference of a metric's values, with its sign: of shares as `points`, of anything else with three decimals."""
    return points(value) if is_share(metric) else f"{value:+z.3f}"


def value_with_interval(value: float, ci: tuple[float, float], metric: str) -> str:
    """A metric's value and its interval: `20.5 (18.1-22.9)`."""
    low, high = (write_value(bound, metric) for bound in ci)
    return f"{write_value(value, metric)} ({f'{low}-{high}' if _is_known(ci) else UNKNOWN})"


def gain_with_interval(value: float, ci: tuple[float, float], metric: str) -> str:
    """A difference of a metric's values and its interval: `+0.5 (-0.1 to +1.1)`."""
    return f"{write_gain(value, metric)} ({gain_bounds(ci, metric)})"


def gain_bounds(ci: tuple[float, float], metric: str) -> str:
    """The interval of a difference, alone: `-0.1 to +1.1`."""
    return " to ".join(write_gain(bound, metric) for bound in ci) if _is_known(ci) else UNKNOWN


def _is_known(ci: tuple[float, float]) -> bool:
    """With few articles some resample has none of a run's queries, and nothing is known of the interval."""
    return not math.isnan(sum(ci))
