"""How a figure is written wherever people read it: shares in per cent, and a minus only before something."""

from evaluation.measures.metrics import METRICS, split_prefix


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
