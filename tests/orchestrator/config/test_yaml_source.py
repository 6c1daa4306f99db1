"""One mapping from YAML files and overrides: what is read, what is merged, what is refused."""

from pathlib import Path

import pytest

from orchestrator.config.yaml_source import apply_override, load_raw, merge, read_yaml


def write(folder: Path, text: str, name: str = "e.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("-2E4", -20000.0),
        (".5e1", 5.0),
        ("1e3", 1000.0),
        ("3", 3),
        ("0.25", 0.25),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
    ],
)
def test_a_number_with_an_exponent_is_a_number(tmp_path: Path, text: str, value: object) -> None:
    read = read_yaml(write(tmp_path, f"a: {text}\n"))["a"]
    assert read == value
    assert type(read) is type(value)


def test_an_anchor_may_be_used_twice(tmp_path: Path) -> None:
    raw = read_yaml(write(tmp_path, "a: &sizes {d: 1}\nb: *sizes\nc: [*sizes, *sizes]\n"))
    assert raw == {"a": {"d": 1}, "b": {"d": 1}, "c": [{"d": 1}, {"d": 1}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: expected once, got it on lines 1 and 3; delete one of them"),
        ("v:\n  amn: {}\n  amn: {}\n", "v.amn: expected once, got it on lines 2 and 3; delete one of them"),
        ("g: [{e: 1}, {e: 1, e: 2}]\n", "g[1].e: expected once, got it on lines 1 and 1; delete one of them"),
        ("{a: 1}: 2\n", "top level: expected plain keys, got a list or mapping as a key on line 1; fix the braces"),
        ("a:\n  ? [b]\n  : 2\n", "a: expected plain keys, got a list or mapping as a key on line 2; fix the braces"),
        ("", "expected a mapping of keys, got NoneType; see experiments/phase5.yaml"),
        ("- a\n", "expected a mapping of keys, got list; see experiments/phase5.yaml"),
        ("a: [1\nb: 2\n", "line 2 expected YAML, got expected ',' or ']', but got ':'; fix the syntax"),
        ("a: !!python/name:os.system\n", "line 1 expected YAML, got could not determine a constructor for the tag"),
    ],
)
def test_a_file_that_is_no_mapping_of_single_keys_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as refused:
        read_yaml(path)
    line = str(refused.value)
    assert line.startswith(f"{path}:")
    assert message in line
    assert "\n" not in line


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: expected an experiment file, got no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_mappings_merge_key_by_key_and_lists_are_replaced() -> None:
    base = {"a": {"x": 1, "y": 2}, "list": [1, 2], "kept": 0}
    assert merge(base, {"a": {"y": 3}, "list": [9]}) == {"a": {"x": 1, "y": 3}, "list": [9], "kept": 0}
    assert base == {"a": {"x": 1, "y": 2}, "list": [1, 2], "kept": 0}


def test_null_drops_an_inherited_variant_and_is_a_value_elsewhere() -> None:
    variants = {"variants": {"amn": {"d_model": 8}, "mamba_s": {}}}
    assert merge(variants, {"variants": {"amn": None, "never": None}}) == {"variants": {"mamba_s": {}}}
    training = {"training": {"early_stopping": {"patience": 3}, "epochs": 2}}
    assert merge(training, {"training": {"early_stopping": None}}) == {
        "training": {"early_stopping": None, "epochs": 2}
    }


def test_a_file_extends_another_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "name: base\ntraining: {epochs: 20, batch_size: 8}\n", "base.yaml")
    write(tmp_path, "extends: base.yaml\ntraining: {epochs: 10}\n", "middle.yaml")
    path = write(tmp_path / "sub", "extends: ../middle.yaml\nname: top\n")
    assert load_raw(path) == {"name": "top", "training": {"epochs": 10, "batch_size": 8}}


def test_a_variant_of_the_root_is_dropped_by_any_file_of_the_chain(tmp_path: Path) -> None:
    write(tmp_path, "variants: {a: {d_model: 1}, b: {d_model: 2}, c: {d_model: 3}}\n", "base.yaml")
    write(tmp_path, "extends: base.yaml\nvariants: {a: {d_model: 4}, c: null}\n", "middle.yaml")
    path = write(tmp_path, "extends: middle.yaml\nvariants: {a: null, c: {d_state: 5}}\n")
    assert load_raw(path) == {"variants": {"b": {"d_model": 2}, "c": {"d_state": 5}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: e.yaml\n", "e.yaml: extends: expected no circle, got e.yaml again; cut one link"),
        ("extends: other.yaml\n", "other.yaml: extends: expected no circle, got ./e.yaml again; cut one link"),
        ("extends: none.yaml\n", "e.yaml: extends: expected an experiment file, got"),
        ("extends: [other.yaml]\n", "e.yaml: extends: expected one file name, got ['other.yaml']; name one file"),
    ],
)
def test_a_chain_of_files_that_does_not_end_well_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, "extends: ./e.yaml\n", "other.yaml")
    with pytest.raises(ValueError) as refused:
        load_raw(write(tmp_path, text))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=2", {"a": {"b": 2, "c": 0}, "d": 5}),
        ("a.b=1e-3", {"a": {"b": 0.001, "c": 0}, "d": 5}),
        ("a.new.deep=x", {"a": {"b": 1, "c": 0, "new": {"deep": "x"}}, "d": 5}),
        ("d=[1, 2]", {"a": {"b": 1, "c": 0}, "d": [1, 2]}),
        ("a={b: 7}", {"a": {"b": 7, "c": 0}, "d": 5}),
        ("a.b=r@5 >= 0.2", {"a": {"b": "r@5 >= 0.2", "c": 0}, "d": 5}),
        ("a.b=null", {"a": {"b": None, "c": 0}, "d": 5}),
        ("d=", {"a": {"b": 1, "c": 0}, "d": None}),
    ],
)
def test_an_override_is_laid_on_top(assignment: str, expected: dict[str, object]) -> None:
    assert apply_override({"a": {"b": 1, "c": 0}, "d": 5}, assignment) == expected


def test_an_override_drops_a_variant() -> None:
    assert apply_override({"variants": {"amn": {}, "mamba_s": {}}}, "variants.amn=null") == {
        "variants": {"mamba_s": {}}
    }


def test_the_last_override_of_a_key_wins(tmp_path: Path) -> None:
    assert load_raw(write(tmp_path, "a: 0\n"), ("a=1", "a=2")) == {"a": 2}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs", "--set training.epochs: expected key.key=value"),
        ("=3", "--set =3: expected key.key=value"),
        ("training..epochs=3", "--set training..epochs=3: expected key.key=value"),
        ("a=[1", "--set a=[1: expected a YAML value after '=', got '[1'; quote it"),
        ("a={b: 1, b: 2}", "--set a={b: 1, b: 2}: b: expected once"),
    ],
)
def test_an_override_that_is_no_assignment_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        apply_override({}, assignment)
    assert str(refused.value).startswith(message)
