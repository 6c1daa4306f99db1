"""Two nodes of one CPU each, of which one sees neither run folder nor corpus, and has an old checkout where ours is.

`make test-cluster`; needs Linux, and root for the second node's own view of the file system. Ports are free ones, and
only what is started here is ended.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.io import read_json
from tests.benchmarks.bare_loop import run_bare
from tests.orchestrator.launches import (
    EPOCHS,
    LEARNER_ALONE,
    LONG,
    NO_DROPOUT,
    NO_RULES,
    REPOSITORY,
    ROTATION,
    TIMEOUT_S,
    command,
    figures,
    predictions,
    records,
    sets,
)
from tests.servers import free_ports, wait_until_it_listens

pytestmark = pytest.mark.ray  # the first test is part of `make test`; in test-cluster the second one holds it
RAY = Path(sys.executable).parent / "ray"
COUNT = """
import sys, time, ray

ray.init(sys.argv[1], logging_level=40)
until = time.monotonic() + 90
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
    assert time.monotonic() < until
    time.sleep(0.5)
"""


def without_ray() -> dict[str, str]:
    """Return the environment less what a shell, or a test in this process that planned a local run, has set for Ray."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


class Cluster:
    """A head and a second node, each started by `ray start --block` in a process group of its own."""

    def __init__(self, folder: Path, hidden: Path) -> None:
        self._folder, self._hidden = folder, hidden
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.sessions: list[Path] = []
        port, dashboard = free_ports(2)
        self.address, self.jobs = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        named = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment = {**without_ray(), **named}
        self._nodes: list[subprocess.Popen[bytes]] = []
        head = [str(RAY), "start", "--block", "--head", f"--port={port}", f"--dashboard-port={dashboard}"]
        try:
            # Ray itself waits half a minute between two tries where no head listens yet.
            wait_until_it_listens(self._start([*head, *self.own()], "head"), port, 60)
            self.second = self.add_second()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End what is left of the cluster."""
        for node in self._nodes:
            if node.poll() is None:
                self.stop(node)
        for session in self.sessions:
            shutil.rmtree(session, ignore_errors=True)

    def own(self) -> list[str]:
        """Return what a node does not share with another one of this machine: CPU, port, and folder of a session.

        Each node removes its own files. A short path: the dashboard's sockets lie below it, and the name of one has at
        most 107 letters.
        """
        self.sessions.append(Path(tempfile.mkdtemp(prefix="nv")))
        (agent,) = free_ports(1)
        return ["--num-cpus=1", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={self.sessions[-1]}"]

    def add_second(self) -> subprocess.Popen[bytes]:
        """Start the second node in its own view of the file system: no corpus, no run folder, an old checkout."""
        old = self._folder / "old"
        shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(REPOSITORY / "orchestrator", old)
        (old / "trials" / "train.py").write_text("raise RuntimeError('an old checkout was imported')\n")
        start = shlex.join([str(RAY), "start", "--block", f"--address={self.address}", *self.own()])
        mounts = f"mount -t tmpfs none {self._hidden} && mount --bind {old} {REPOSITORY / 'orchestrator'}"
        found = self._start(["unshare", "-m", "bash", "-c", f"{mounts} && cd / && exec {start}"], "second")
        self.wait(2)
        return found

    def _start(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{name}.log").open("ab")
        self._nodes.append(
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        )
        return self._nodes[-1]

    def wait(self, num_nodes: int) -> None:
        """Return once so many nodes live."""
        done = self.run([sys.executable, "-c", COUNT, self.address, str(num_nodes)], cwd="/")
        logs = "".join(path.read_text(errors="replace") for path in self._folder.glob("*.log"))
        assert done.returncode == 0, f"no {num_nodes} nodes: {done.stdout} {done.stderr} {logs}"

    def run(self, command: list[str], without: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **options.pop("env", {})}
        environment.pop(without, None)
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
        )

    def second_id(self) -> str:
        """Return Ray's own name of the second node."""
        find = f"import ray; ray.init('{self.address}', logging_level=40); "
        find += "living = [node for node in ray.nodes() if node['Alive']]; "
        find += "print(*(node['NodeID'] for node in living if 'node:__internal_head__' not in node['Resources']))"
        (found,) = self.run([sys.executable, "-c", find], cwd="/").stdout.strip().splitlines()[-1].split()
        return found

    def drain_second(self) -> None:
        """Tell the cluster that the second node is to be taken away, as a provider of spot machines does."""
        reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        done = self.run([str(RAY), "drain-node", f"--address={self.address}", f"--node-id={self.second_id()}", *reason])
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self, node: subprocess.Popen[bytes]) -> None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory, rotation_payload: Path) -> Path:
    """What the second node does not see: the corpus and every run folder."""
    folder = tmp_path_factory.mktemp("hidden")
    shutil.copytree(rotation_payload, folder / "payload")
    return folder


@pytest.fixture(scope="module")
def experiment(hidden: Path) -> Path:
    path = hidden / "rotation.yaml"
    path.write_text(ROTATION.format(payload=hidden / "payload"))
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, hidden: Path) -> Iterator[Cluster]:
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the second node's own view of the file system needs Linux and root")
    made = Cluster(tmp_path_factory.mktemp("cluster"), hidden)
    yield made
    made.close()


def test_a_group_over_two_nodes_of_which_one_sees_nothing_of_ours_trains_as_one_worker(
    cluster: Cluster, experiment: Path, hidden: Path, bare: dict[str, dict[str, Any]]
) -> None:
    run, wanted = hidden / "group", sets("training.workers=2", NO_DROPOUT)
    typed = command(experiment, run, "--address", cluster.address, "--only", "learner", *wanted)
    done = cluster.run(typed, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_trained_as_one_worker(run, bare["learner"])
    assert "TrainController" in (run / "ray.log").read_text()


def assert_trained_as_one_worker(run: Path, alone: dict[str, Any]) -> None:
    """The group of `learner` has the figures of the bare loop, and nothing is left of it."""
    # Without the last figure, a recall: the rank of one target of fifty may change by one.
    both = [np.array(figures(found))[:, :-1] for found in (records(run, "learner"), alone["records"])]
    np.testing.assert_allclose(*both, rtol=1e-3)
    np.testing.assert_allclose(predictions(run, "learner"), alone["predictions"], atol=1e-2)
    timeline = read_json(run / "timeline.json")
    assert (timeline["slots"], timeline["placement_groups_left"]) == (1, 0)


@pytest.mark.cluster
def test_a_group_gives_its_slot_back_to_the_next_group_and_to_a_trial_of_one_worker(
    cluster: Cluster, experiment: Path, hidden: Path, bare: dict[str, dict[str, Any]]
) -> None:
    run, groups = hidden / "groups", [f"variants.{name}.training.workers=2" for name in ("frozen", "learner")]
    # The more epochs, the earlier it starts: frozen is pruned before learner begins.
    wanted = sets(*groups, "variants.frozen.training.epochs=6", NO_DROPOUT)
    done = cluster.run(command(experiment, run, "--address", cluster.address, *wanted), cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [record["epoch"] for record in records(run, "frozen")] == [1, 2]
    trials = read_json(run / "timeline.json")["trials"]
    assert trials["learner"]["first_step_s"] > trials["frozen"]["last_report_s"]
    assert_trained_as_one_worker(run, bare["learner"])
    assert figures(records(run, "amn")) == figures(bare["amn"]["records"])
    np.testing.assert_array_equal(predictions(run, "amn"), bare["amn"]["predictions"])


@pytest.mark.cluster
def test_trials_run_on_both_nodes_each_by_itself(
    cluster: Cluster, experiment: Path, hidden: Path, bare: dict[str, dict[str, Any]]
) -> None:
    run = hidden / "joined"
    done = cluster.run(command(experiment, run, "--address", cluster.address, *sets(NO_DROPOUT)), cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = {line["node"] for name in ("learner", "frozen", "amn") for line in records(run, name) if "node" in line}
    assert len(nodes) == 2, nodes
    for name in ("learner", "amn"):
        assert figures(records(run, name)) == figures(bare[name]["records"])
        np.testing.assert_array_equal(predictions(run, name), bare[name]["predictions"])


@pytest.mark.cluster
def test_a_plan_is_made_of_the_cluster_and_ray_address_is_honoured_with_a_line(
    cluster: Cluster, experiment: Path, hidden: Path
) -> None:
    planned = cluster.run(  # that the cluster asks for the token is known by its file
        command(experiment, hidden / "plan", "--dry-run", "--address", cluster.address),
        without="RAY_AUTH_MODE",
        cwd=REPOSITORY,
    )
    assert planned.returncode == 0, planned.stderr
    assert "on 2 nodes, each by itself, 2" in planned.stdout
    named = {"RAY_ADDRESS": cluster.address}
    typed = command(experiment, hidden / "named", "--only", "amn", *sets("training.epochs=1", *NO_RULES))
    done = cluster.run(typed, cwd=REPOSITORY, env=named)
    assert f"cluster   {cluster.address}, as RAY_ADDRESS says" in done.stdout, done.stdout + done.stderr
    assert (hidden / "named" / "results.json").is_file()


@pytest.mark.cluster
def test_a_submitted_job_joins_the_cluster_it_was_submitted_to(
    cluster: Cluster, experiment: Path, hidden: Path
) -> None:
    run = hidden / "submitted"
    typed = shlex.join(command(experiment, run, "--only", "amn", *sets("training.epochs=1", *NO_RULES)))
    submit = [str(RAY), "job", "submit", "--address", cluster.jobs, "--", "bash", "-c"]
    done = cluster.run([*submit, f"cd {REPOSITORY} && {typed}"], cwd="/")
    assert re.search(r"cluster   \S+:\d+, as RAY_ADDRESS says", done.stdout), done.stdout + done.stderr
    assert "on 2 nodes" in done.stdout
    assert (run / "results.json").is_file()


def start(cluster: Cluster, experiment: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    """Start trials of many epochs that are never tried again."""
    typed = command(experiment, run, "--address", cluster.address, *sets(*LONG, "training.max_retries=0"), *options)
    return subprocess.Popen(
        typed, cwd=REPOSITORY, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start_two(cluster: Cluster, experiment: Path, run: Path) -> subprocess.Popen[str]:
    """Start two trials, one a node; return when that of the second has trained an epoch."""
    second = cluster.second_id()
    running = start(cluster, experiment, run, "--only", "learner,amn")
    for _ in range(600):
        first = [line for name in ("learner", "amn") for line in records(run, name)[:2] if line["epoch"] == 1]
        if any(second[:8] in line["node"] for line in first):
            break
        time.sleep(0.1)
    return running


@pytest.mark.cluster
def test_the_loss_of_a_node_is_told_and_its_trial_goes_on_elsewhere(
    cluster: Cluster, experiment: Path, hidden: Path
) -> None:
    run = hidden / "lost"
    running = start_two(cluster, experiment, run)
    cluster.stop(cluster.second)
    shown, _ = running.communicate(timeout=TIMEOUT_S)
    cluster.wait(1)
    cluster.second = cluster.add_second()
    assert running.returncode in {0, 3}, shown
    assert re.search(r"(learner|amn): lost on .* goes on after epoch \d+", shown), shown
    for name in ("learner", "amn"):
        assert [line["epoch"] for line in records(run, name)][-1] == EPOCHS[name]
    (event,) = [one for one in read_json(run / "timeline.json")["events"] if one["event"] == "lost"]
    assert event["trial"] in {"learner", "amn"}


@pytest.mark.cluster
def test_a_trial_leaves_a_node_that_is_to_be_taken_away_and_goes_on_inside_its_epoch(
    cluster: Cluster, experiment: Path, hidden: Path
) -> None:
    run = hidden / "drained"
    running = start_two(cluster, experiment, run)
    cluster.drain_second()
    shown, _ = running.communicate(timeout=TIMEOUT_S)
    cluster.stop(cluster.second)
    cluster.wait(1)
    cluster.second = cluster.add_second()
    assert running.returncode in {0, 3}, shown
    told = re.search(r"(learner|amn): left (.*), which is being taken away, after step \d+ of epoch (\d+)", shown)
    assert told is not None, shown
    found = records(run, told[1])
    assert [line["epoch"] for line in found if line["epoch"] > 0] == [*range(1, EPOCHS[told[1]] + 1)]
    nodes = {line["epoch"]: line["node"] for line in found if "node" in line}
    assert list(nodes) == [1, int(told[3])] and nodes[1] == told[2] != nodes[int(told[3])]
    assert [event["event"] for event in read_json(run / "timeline.json")["events"]] == ["left"]


@pytest.mark.cluster
def test_a_worker_group_leaves_together_when_one_of_its_nodes_is_to_be_taken_away(
    cluster: Cluster, experiment: Path, hidden: Path
) -> None:
    run, epochs = hidden / "leaving", 12  # 50 of two workers took five minutes on a slow machine
    changed = [*LONG, NO_DROPOUT, f"variants.learner.training.epochs={epochs}"]
    running = start(cluster, experiment, run, "--only", "learner", *sets(*changed, "training.workers=2"))
    for _ in range(600):
        if records(run, "learner"):
            break
        time.sleep(0.1)
    cluster.drain_second()
    assert running.stdout is not None
    shown = ""
    while "learner: left" not in shown and (line := running.stdout.readline()):
        shown += line
    cluster.stop(cluster.second)
    cluster.wait(1)
    cluster.second = cluster.add_second()
    shown += running.communicate(timeout=TIMEOUT_S)[0]
    told = re.search(r"learner: left (.*), which is being taken away, after step \d+ of epoch (\d+)", shown)
    assert running.returncode in {0, 3} and told is not None, shown
    found = records(run, "learner")
    assert [line["epoch"] for line in found] == [*range(1, epochs + 1)]
    # One worker that is never interrupted trains the same.
    bare = run_bare(str(experiment), (*changed, *LEARNER_ALONE))["learner"]["records"]
    near = slice(0, int(told[2]) + 1)
    assert [line["loss"] for line in found[near]] == pytest.approx([line["loss"] for line in bare[near]], rel=5e-3)
