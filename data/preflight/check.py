"""One finding of the preflight: a value, a limit, a verdict and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding: `limit` None means that the value is reported and cannot fail."""

    name: str
    value: float
    limit: float | None = None
    relation: str = ""
    """How value and limit must stand: ">=", "<=" or "=="."""
    passed: bool = True
    waived: bool = False
    warning: bool = False
    """A failure is shown and stops nothing."""
    detail: str = ""
    hint: str = ""
    """What to do when it fails."""

    @property
    def blocks(self) -> bool:
        """Say whether this check stops the launch."""
        return self.verdict == "FAIL"

    @property
    def verdict(self) -> str:
        """Return report, pass, waived, warn or FAIL."""
        if self.limit is None:
            return "report"
        if self.passed:
            return "pass"
        return "warn" if self.warning else "waived" if self.waived else "FAIL"

    def line(self) -> str:
        """Say a failed check or a warning in one line."""
        return (
            f"preflight.{self.name}: expected {self.relation} {_number(self.limit)}, got {_number(self.value)}"
            f"{f' ({self.detail})' if self.detail else ''}; {self.hint}"
        )


def judge(
    name: str, value: float, relation: str, limit: float, hint: str, *, detail: str = "", warning: bool = False
) -> Check:
    """Compare a value with its limit; NaN never passes. With `warning` a failure stops nothing."""
    passed = {"<=": value <= limit, ">=": value >= limit, "==": value == limit}[relation]
    return Check(
        name=name,
        value=float(value),
        limit=limit,
        relation=relation,
        passed=bool(passed),
        warning=warning,
        detail=detail,
        hint=hint,
    )


def report(name: str, value: float, detail: str) -> Check:
    """Make a check that only reports."""
    return Check(name=name, value=value, detail=detail)


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    # Whole numbers in full: 584,545 and 584,500 rows are 5.845e+05 alike.
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"


def table_of(checks: Iterable[Check]) -> str:
    """Render checks as a short table of plain text: verdict, name, value, limit, detail."""
    rows = [
        (
            check.verdict,
            check.name,
            _number(check.value),
            f"{check.relation} {_number(check.limit)}" if check.limit is not None else "",
            check.detail if check.passed or not check.hint else f"{check.detail}; {check.hint}".lstrip("; "),
        )
        for check in checks
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    )
