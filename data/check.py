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
    detail: str = ""
    hint: str = ""
    """What to do when it fails."""

    @property
    def blocks(self) -> bool:
        """Say whether this check stops the launch."""
        return not self.passed and not self.waived

    def line(self) -> str:
        """Say a failed check in one line."""
        return (
            f"preflight.{self.name}: expected {self.relation} {_number(self.limit)}, got {_number(self.value)}"
            f"{f' ({self.detail})' if self.detail else ''}; {self.hint}"
        )


def judge(name: str, value: float, relation: str, limit: float, hint: str, *, detail: str = "") -> Check:
    """Compare a value with its limit; NaN never passes."""
    passed = {"<=": value <= limit, ">=": value >= limit, "==": value == limit}[relation]
    return Check(
        name=name, value=float(value), limit=limit, relation=relation, passed=bool(passed), detail=detail, hint=hint
    )


def report(name: str, value: float, detail: str) -> Check:
    """Make a check that only reports."""
    return Check(name=name, value=value, detail=detail)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def table_of(checks: Iterable[Check]) -> str:
    """Render checks as a short table of plain text: verdict, name, value, limit, detail."""
    rows = [
        (
            "report" if check.limit is None else "waived" if check.waived else "pass" if check.passed else "FAIL",
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
