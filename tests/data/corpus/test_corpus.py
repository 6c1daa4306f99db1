import subprocess
import sys
from pathlib import Path

import pytest

from data.corpus import docstrings
from data.corpus.articles import Article, corpus_sha256
from data.corpus.docstrings import docstring_articles, package_versions

LONG = "\n\n".join(f"Paragraph number {number} has more than forty characters." for number in range(7))
OTHER = LONG.replace("Paragraph", "A paragraph")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    root = tmp_path / "a_package_of_docs"
    root.mkdir()
    (root / "__init__.py").write_text("raise ImportError('never imported')")
    return root


def titles(**options: int) -> list[str]:
    return [article.title for article in docstring_articles(["a_package_of_docs"], **options)]


def test_modules_classes_and_functions_are_found_in_the_order_of_files_and_lines(package: Path) -> None:
    (package / "b.py").write_text(f'"""{LONG} one"""\n')
    body = f'if True:\n    class A:\n        def m(self):\n            r"""{LONG} two"""\n'
    body += f'\nasync def f():\n    """{LONG} 3"""\n'
    (package / "a.py").write_text(body)
    (package / "__init__.py").write_text(f"'''{OTHER}'''\nraise ImportError('never imported')")
    assert titles() == ["a_package_of_docs", *(f"a_package_of_docs.{name}" for name in ("a.A.m", "a.f", "b"))]


def test_short_articles_and_docstrings_seen_before_are_left_out(package: Path) -> None:
    six = LONG.rsplit("\n\n", 1)[0]
    (package / "a.py").write_text(f'"""{LONG}"""\ndef f():\n    """{six}"""\n')
    (package / "b.py").write_text(f'def g():\n    """{LONG}"""\n')
    assert titles() == ["a_package_of_docs.a"]
    assert titles(min_article_chunks=6) == ["a_package_of_docs.a", "a_package_of_docs.a.f"]


@pytest.mark.parametrize("line", ['# """', "x = '\"'", "x = \"'''\"", "# it's", 'x = "\\""'])
def test_quotes_in_comments_and_strings_hide_no_docstring(package: Path, line: str) -> None:
    (package / "a.py").write_text(f'{line}\ndef f():\n    """{LONG} \\""""\n')
    assert titles() == ["a_package_of_docs.a.f"]


def test_definitions_in_every_kind_of_block_are_found(package: Path) -> None:
    blocks = ["try:", "except ValueError:", "else:", "finally:", "if x:", "else:", "with x:", "for x in y:"]
    body = "".join(f'{block}\n    def f():\n        """{LONG} {number}"""\n' for number, block in enumerate(blocks))
    (package / "a.py").write_text(f'{body}match x:\n    case 1:\n        def f():\n            """{LONG} last"""\n')
    assert len(titles()) == len(blocks) + 1


def test_a_file_for_another_python_is_left_out(package: Path) -> None:
    (package / "a.py").write_text(f'"""{LONG}"""\ndef f[T:\n')
    (package / "b.py").write_text(f'"""{OTHER}"""\n')
    assert titles() == ["a_package_of_docs.b"]


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ValueError, match="packages: expected installed packages, got 'no_such_package'; install it"):
        package_versions(["no_such_package"])


def test_the_filter_before_parsing_loses_no_article(monkeypatch: pytest.MonkeyPatch) -> None:
    filtered = docstring_articles(["networkx"])
    monkeypatch.setattr(docstrings, "_may_hold_article", lambda *_: True)
    assert len(filtered) > 500
    assert docstring_articles(["networkx"]) == filtered


def test_finding_packages_imports_none_of_them() -> None:
    code = "import sys; from data.corpus.docstrings import package_versions as versions; "
    code += "versions(['torch', 'ray', 'pandas']); "
    code += "assert not {'torch', 'ray', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_hash_depends_on_order_titles_and_text() -> None:
    one, two = Article("t", ("a", "b")), Article("t", ("ab",))
    hashes = {
        corpus_sha256(articles) for articles in ([one], [two], [one, two], [two, one], [Article("u", ("a", "b"))])
    }
    assert len(hashes) == 5
