"""Which corpus an experiment reads and how it is cut into chunks, windows and splits."""

from dataclasses import dataclass
from typing import Literal

from data.corpus.chunking import ChunkRule
from data.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The data section of an experiment. Every default is the laptop's; lengths are in characters, shares in 0..1."""

    source: Literal["docstrings", "payload"] = "docstrings"
    """docstrings: embed the documentation of the installed packages. payload: open the folder named by `payload`."""
    payload: str | None = None
    """Folder made by data.build or data.embed, or a file that data.build reads; only with source: payload."""
    train: str | None = None
    """Training sequences (.npz of another program); with val and eval, else windows are cut from the payload."""
    val: str | None = None
    """Validation sequences (.npz)."""
    eval: str | None = None
    """Evaluation sequences (.npz); their windows are the test split."""
    embedder: str | None = None
    """Who made the vectors of a payload file that does not say."""
    realign: bool = False
    """Use the payload's own rows where the vectors in train, val or eval differ from them."""
    packages: tuple[str, ...] = ("numpy", "torch", "pandas", "ray", "scipy", "sympy", "networkx")
    """Installed packages whose docstrings are the corpus; only with source: docstrings."""
    repeats: Literal["drop", "keep"] | None = None
    """drop: take out chunks that stand, the same or nearly, in several articles, before windows are cut, see
    data.corpus.repeats. keep: leave them in. By default they are dropped from docstrings and kept in a payload."""
    min_chars: int = 40
    """Paragraphs shorter than this are left out."""
    max_chars: int = 600
    """Longer paragraphs are cut at the last word that fits."""
    min_article_chunks: int = 7
    """Articles with fewer chunks give no windows."""
    context_length: int = 5
    """Chunks of context in a window (L); the target is the chunk after them."""
    val_share: float = 0.1
    """Share of the articles used for validation and smoke queries; articles are never split."""
    test_share: float = 0.1
    """Share of the articles held out for the final queries."""
    train_share: float = 1.0
    """Share of the training articles that is used; below 1 for a learning curve, on the same queries."""
    cache_dir: str = "artifacts"
    """Where a built corpus is kept, by a hash of what it was built from."""

    def __post_init__(self) -> None:
        """Refuse values that no run could use; each message begins with the field's name."""
        self._check_source()
        ChunkRule(min_chars=self.min_chars, max_chars=self.max_chars)
        if self.context_length < 1:
            raise UserError(f"context_length: expected at least 1, got {self.context_length}; the default is 5")
        if self.min_article_chunks <= self.context_length:
            raise UserError(
                f"min_article_chunks: expected more than context_length = {self.context_length}, "
                f"got {self.min_article_chunks}; a window needs context_length + 1 chunks"
            )
        for name in ("val_share", "test_share"):
            share = getattr(self, name)
            if not 0.0 < share < 1.0:
                raise UserError(
                    f"{name}: expected a share between 0 and 1, got {share}; 0.1 is a tenth of the articles"
                )
        if not 0.0 < self.train_share <= 1.0:
            raise UserError(f"train_share: expected above 0 up to 1, got {self.train_share}; 1 uses all articles")
        if self.val_share + self.test_share >= 1.0:
            raise UserError(
                f"test_share: expected val_share + test_share below 1, got {self.val_share + self.test_share:g}; "
                "leave articles to train on"
            )

    @property
    def drops_repeats(self) -> bool:
        """Say whether repeats are taken out."""
        return self.repeats == "drop" or (self.repeats is None and self.source == "docstrings")

    def files(self) -> dict[str, str]:
        """Return the field and path of every file or folder that the configuration names."""
        named = {name: getattr(self, name) for name in ("payload", "train", "val", "eval")}
        return {name: path for name, path in named.items() if path is not None}

    def _check_source(self) -> None:
        if self.repeats not in ("drop", "keep", None):
            raise UserError(f"repeats: expected drop or keep, got {self.repeats!r}; choose one of the two")
        if self.source not in ("docstrings", "payload"):
            raise UserError(f"source: expected docstrings or payload, got {self.source!r}; choose one of the two")
        if self.source == "payload" and not self.payload:
            raise UserError(
                "payload: expected a folder with source: payload, got none; make one with python -m data.build"
            )
        if self.source == "docstrings":
            for name, path in self.files().items():
                raise UserError(
                    f"{name}: expected none with source: docstrings, got {path!r}; set source: payload to use it"
                )
        sequences = [name for name in ("train", "val", "eval") if getattr(self, name) is not None]
        if sequences and len(sequences) < 3:
            missing = next(name for name in ("train", "val", "eval") if name not in sequences)
            raise UserError(f"{missing}: expected a file beside {' and '.join(sequences)}, got none; name all three")
        if sequences and self.repeats == "drop":
            raise UserError(
                "repeats: expected keep with sequence files, got drop; leave the key out, windows are fixed"
            )
        if self.source == "docstrings" and not self.packages:
            raise UserError(
                "packages: expected at least one installed package, got none; leave the key out for the default"
            )
