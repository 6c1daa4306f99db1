"""The default corpus: the documentation that is already on this machine.

One docstring is an article, one of its paragraphs a chunk. Sources are parsed with `ast` and never imported. The rule:
  - modules, classes and functions of the named packages, files in sorted order, in the order of the source;
  - paragraphs are cut by data.corpus.chunking; what follows the cut in a long one is left out;
  - articles with fewer than `min_article_chunks` chunks are left out, and so is a docstring that was seen before;
  - files that are not valid for the running Python are left out.
"""

import ast
import gc
import importlib.metadata
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.corpus.articles import Article
from data.corpus.chunking import ChunkRule, chunk, split_paragraphs
from data.errors import UserError

RULE_VERSION = 1
"""Part of every corpus hash; raise it when the rule changes."""

_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
# Strings and comments of Python, in one pass: a triple quote inside a comment or a short string opens nothing.
_LEXER = re.compile(
    rb'#[^\n]*|"""([^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*)"""|' + rb"'''([^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*)'''|"
    rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"|' + rb"'[^'\\\n]*(?:\\.[^'\\\n]*)*'",
    re.DOTALL,
)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstring_articles(
    packages: Iterable[str], *, min_chars: int = 40, max_chars: int = 600, min_article_chunks: int = 7
) -> list[Article]:
    """Read the docstrings of installed packages into articles, in an order that depends on the files alone.

    Raises:
        UserError: a package is not installed as Python sources.
    """
    rule = ChunkRule(min_chars=min_chars, max_chars=max_chars, keep_rest=False)
    articles: list[Article] = []
    seen: set[str] = set()
    for package in packages:
        root = package_root(package)
        for file in sorted(root.rglob("*.py")):
            module = ".".join([package, *file.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")
            for title, docstring in _docstrings(file, module, min_chars, min_article_chunks):
                if docstring not in seen:
                    seen.add(docstring)
                    paragraphs = chunk(split_paragraphs(docstring), rule)
                    if len(paragraphs) >= min_article_chunks:
                        articles.append(Article(title, paragraphs))
    return articles


def package_root(package: str) -> Path:
    """Find the folder of an installed top-level package without importing it."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.origin or not spec.submodule_search_locations:
        raise UserError(
            f"packages: expected installed packages, got {package!r}; install it or take it out of the list"
        )
    return Path(spec.origin).parent


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, without importing any."""
    versions = {}
    for package in packages:
        package_root(package)
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def _docstrings(file: Path, module: str, min_chars: int, min_paragraphs: int) -> Iterator[tuple[str, str]]:
    source = file.read_bytes()
    if not _may_hold_article(source, min_chars, min_paragraphs):
        return
    try:
        with _quiet_and_fast():
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    yield from _walk(tree, module)


def _may_hold_article(source: bytes, min_chars: int, min_paragraphs: int) -> bool:
    """Say whether some triple-quoted string has enough blank lines and length for an article.

    Parsing is nearly all of the time, and two files in three hold no such string. A docstring of many paragraphs in
    single quotes, with its line breaks as escapes, would be missed; none of the packages has one.
    """
    for match in _LEXER.finditer(source):
        body = match.group(1) or match.group(2)
        if body and len(body) >= min_chars * min_paragraphs and len(_BLANK_LINE.findall(body)) >= min_paragraphs - 1:
            return True
    return False


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, docstring) of a node and what is defined in it, looking at statements only."""
    if isinstance(node, _Documented):
        docstring = _docstring_of(node)
        if docstring is not None:
            yield name, inspect.cleandoc(docstring)
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        children = getattr(node, block, None)
        for child in children if isinstance(children, list) else ():
            named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _walk(child, f"{name}.{child.name}" if named else name)


def _docstring_of(node: _Documented) -> str | None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str(docstring))), *_]:
            return docstring
    return None


@contextmanager
def _quiet_and_fast() -> Iterator[None]:
    """Parse without the cyclic collector (half of the time) and without warnings about other people's escapes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if enabled:
            gc.enable()
