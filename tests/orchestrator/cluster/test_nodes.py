"""What a node must have in common with the driver's, how a difference is told, and which cluster is joined."""

from dataclasses import replace
from pathlib import Path

import pytest

from data.errors import UserError
from orchestrator.cluster import start
from orchestrator.cluster.nodes import NodeFacts, compare, facts
from orchestrator.cluster.start import check_run_folder, resolve_address, stage

OWN = NodeFacts(python="3.11", versions={"ray": "2.60.0", "torch": "2.13.0"}, packages="abc")
NAME = "node alpha (10.0.0.2)"


def test_a_node_like_this_one_is_taken() -> None:
    compare(NAME, OWN, OWN)
    found = facts()
    compare(NAME, found, found)
    assert set(found.versions) == {"ray", "torch", "numpy", "faiss-cpu", "pyarrow"} and len(found.packages) == 12


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (replace(OWN, python="3.12"), "node alpha (10.0.0.2): expected Python 3.11, got 3.12; start its Ray"),
        (
            replace(OWN, versions={"ray": "2.60.0", "torch": "2.12.0"}),
            "node alpha (10.0.0.2): expected torch 2.13.0, got 2.12.0; install the pinned packages there",
        ),
        (replace(OWN, versions={"torch": "2.13.0"}), "node alpha (10.0.0.2): expected ray 2.60.0, got none; install"),
        (replace(OWN, packages="old"), "node alpha (10.0.0.2): expected this project's code (abc), got another (old);"),
    ],
)
def test_a_difference_is_one_line_with_the_nodes_name(there: NodeFacts, said: str) -> None:
    with pytest.raises(UserError) as refused:
        compare(NAME, OWN, there)
    assert str(refused.value).startswith(said)


def test_what_is_shipped_is_code_and_templates_and_nothing_that_somebody_put_beside_them(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "deep").mkdir(parents=True)
    for name in ("model.py", "deep/part.py", "corpus.jsonl", "deep/weights.pt"):
        (mine / name).write_text("x = 1\n")
    (tmp_path / "alone.py").write_text("y = 2\n")
    folder = tmp_path / "staged"
    environment = stage(folder, [str(mine), str(tmp_path / "alone.py")])
    shipped = {
        path.relative_to(folder / "modules").as_posix() for path in (folder / "modules").rglob("*") if path.is_file()
    }
    assert {"mine/model.py", "mine/deep/part.py", "alone.py", "orchestrator/launch.py"} <= shipped
    assert "evaluation/report/templates/report.html.j2" in shipped
    assert not [name for name in shipped if name.endswith((".jsonl", ".pt", ".pyc", ".md"))]
    assert [Path(path).name for path in environment["py_modules"]][-2:] == ["mine", "alone.py"]
    assert [path.name for path in Path(environment["working_dir"]).iterdir()] == ["next-vector.txt"]


def test_ray_address_counts_where_no_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_own", {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert resolve_address(None) == (None, "")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert resolve_address(None) == ("10.0.0.1:6379", "cluster   10.0.0.1:6379, as RAY_ADDRESS says")
    assert resolve_address("other:1") == ("other:1", "cluster   other:1, as --address says")
    monkeypatch.setattr(start, "_own", {"address": "10.0.0.1:6379"})  # an earlier launch of this process named it
    assert resolve_address(None) == (None, "")


@pytest.mark.parametrize("where", ["--address", "RAY_ADDRESS"])
def test_ray_client_is_refused_with_what_to_use(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UserError, match=rf"{where} ray://head:10001: expected host:port or auto, got .*ray job submit"):
        resolve_address("ray://head:10001" if where == "--address" else None)


def test_a_run_folder_is_a_local_one_and_not_in_rays_cache(tmp_path: Path) -> None:
    assert check_run_folder(tmp_path / "run") == ""
    with pytest.raises(UserError, match=r"--run-dir s3:/bucket/run: expected a local folder, got an address"):
        check_run_folder(Path("s3://bucket/run"))
    cached = Path("/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1234/runs/phase5")
    assert "lies in Ray's package cache and may be removed; give an absolute --run-dir" in check_run_folder(cached)
