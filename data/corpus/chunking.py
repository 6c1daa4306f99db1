"""The one rule by which texts are cut into chunks; lengths in characters.

Paragraphs are separated by blank lines, white space is folded. A piece that is too long is cut at the last space that
fits, a longer word inside. What then is too short is left out.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from data.errors import UserError

_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
# A sentence ends at . ! ? and perhaps a closing quote, before white space and what can begin a sentence.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-ÖØ-Þ])")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkRule:
    """How an article is cut: by paragraph or by sentence."""

    unit: Literal["paragraph", "sentence"] = "paragraph"
    min_chars: int = 40
    """Shorter paragraphs are left out; shorter sentences are joined with the next of their paragraph."""
    max_chars: int = 600
    """Longer pieces are cut."""
    keep_rest: bool = True
    """Make more chunks of what follows the cut; else it is left out."""

    def __post_init__(self) -> None:
        """Refuse lengths that leave nothing."""
        if self.min_chars < 1:
            raise UserError(f"min_chars: expected at least 1, got {self.min_chars}; 40 drops headings and signatures")
        if self.max_chars < self.min_chars:
            raise UserError(
                f"max_chars: expected at least min_chars = {self.min_chars}, got {self.max_chars}; raise it"
            )


def split_paragraphs(text: str) -> list[str]:
    """Split a text at its blank lines."""
    return _PARAGRAPH_BREAK.split(text)


def chunk(paragraphs: Iterable[str], rule: ChunkRule) -> tuple[str, ...]:
    """Cut paragraphs into chunks in reading order."""
    chunks: list[str] = []
    for paragraph in paragraphs:
        folded = " ".join(paragraph.split())
        for piece in [folded] if rule.unit == "paragraph" else _sentences(folded, rule.min_chars):
            parts = _cut(piece, rule.max_chars)
            chunks += [part for part in (parts if rule.keep_rest else [next(parts)]) if len(part) >= rule.min_chars]
    return tuple(chunks)


def _cut(text: str, max_chars: int) -> Iterator[str]:
    """Yield parts of at most max_chars, in time linear in the text whatever its words are."""
    begin = 0
    while len(text) - begin > max_chars:
        space = text.rfind(" ", begin + 1, begin + max_chars + 1)
        end = space if space > 0 else begin + max_chars
        yield text[begin:end]
        begin = end + (space > 0)
    yield text[begin:]


def _sentences(text: str, min_chars: int) -> list[str]:
    """Split at sentence ends; a sentence below min_chars is joined with the next, a short rest with the one before."""
    sentences: list[str] = []
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        if match.end() - begin >= min_chars:
            sentences.append(text[begin : match.end()].rstrip())
            begin = match.end()
    rest = text[begin:]
    if sentences and len(rest) < min_chars:
        sentences[-1] = f"{sentences[-1]} {rest}".rstrip()
    elif rest:
        sentences.append(rest)
    return sentences
