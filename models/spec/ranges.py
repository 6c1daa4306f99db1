"""Range checks for configuration dataclasses, torch-free.

Every message begins with the field's name: the caller puts the path of the dataclass before it.
"""

from __future__ import annotations

from collections.abc import Iterable

from data.errors import UserError, did_you_mean


def at_least(field: str, value: int, minimum: int) -> None:
    """Raise UserError unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{field}: expected an integer >= {minimum}, got {value!r}; set it to {minimum} or more")


def within(field: str, value: float, low: float, high: float, *, open_high: bool = False) -> None:
    """Raise UserError unless low <= value <= high (value < high with `open_high`); NaN never passes."""
    inside = low <= value < high if open_high else low <= value <= high
    if not inside:
        bracket = ")" if open_high else "]"
        raise UserError(
            f"{field}: expected a number in [{low:g}, {high:g}{bracket}, got {value!r}; choose one in that range"
        )


def positive(field: str, value: float) -> None:
    """Raise UserError unless `value` is a finite number above zero."""
    if not 0.0 < value < float("inf"):
        raise UserError(f"{field}: expected a number > 0, got {value!r}; choose a positive one")


def divides(field: str, value: int, divisor: int, what: str, fix: str) -> None:
    """Raise UserError unless `divisor` divides `value`; `what` names the value, `fix` says what to do."""
    if value % divisor:
        raise UserError(f"{field}: expected {what} divisible by {divisor}, got {value}; {fix}")


def one_of(field: str, value: object, legal: Iterable[str]) -> None:
    """Raise UserError listing the legal values unless `value` is one of them."""
    names = list(legal)
    if value not in names:
        raise UserError(f"{field}: expected one of {', '.join(names)}, got {value!r}; {suggestion(str(value), names)}")


def suggestion(word: str, legal: Iterable[str]) -> str:
    """Return "did you mean X?" for the legal word nearest to `word`, or "choose one of these" when none is near."""
    return did_you_mean(word, legal, "choose one of these")
