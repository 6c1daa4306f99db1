"""Each world goes on as its rule says, and its oracle knows no more than the rule."""

from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.payload.store import open_payload
from data.worlds.__main__ import main
from data.worlds.make import NOISE, NUM_CHUNKS, WORLDS, World, make_world, write_world


def windows(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Every context (Q, L, D) with the chunk after it (Q, D)."""
    length = world.context_length
    places = range(length, world.chunks.shape[1])
    contexts = np.concatenate([world.chunks[:, place - length : place] for place in places])
    return contexts, np.concatenate([world.chunks[:, place] for place in places])


def cosines(world: World) -> np.ndarray:
    """Of what the oracle says and what comes, for every window, (Q,)."""
    contexts, targets = windows(world)
    return np.einsum("qd,qd->q", world.oracle(contexts), targets)


@pytest.mark.parametrize("name", WORLDS)
def test_chunks_are_unit_rows_and_the_same_for_the_same_seed(name: str) -> None:
    world, again, other = (make_world(name, num_chunks=2_560, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_allclose(np.linalg.norm(world.chunks, axis=-1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(world.chunks, again.chunks)
    assert not np.array_equal(world.chunks, other.chunks)
    assert np.prod(world.chunks.shape[:2]) == pytest.approx(2_560, rel=0.05)


@pytest.mark.parametrize("name", ["rotation", "switch", "memory"])
def test_a_rule_makes_the_next_chunk_but_for_its_noise(name: str) -> None:
    # A unit vector plus noise of norm n is made unit again: its cosine with the vector is 1 / sqrt(1 + n^2).
    assert cosines(make_world(name, num_chunks=4_000)).mean() == pytest.approx(1.0 / np.sqrt(1.0 + NOISE**2), abs=0.01)


def test_the_switch_is_thrown_by_the_oldest_chunk_alone() -> None:
    world = make_world("switch", num_chunks=400)
    contexts, _ = windows(world)
    turned = contexts.copy()
    turned[:, 0] *= -1.0  # the other side of the feature
    said, otherwise = world.oracle(contexts), world.oracle(turned)
    assert np.abs(np.einsum("qd,qd->q", said, otherwise)).mean() < 0.2
    turned = contexts.copy()
    turned[:, 1:4] *= -1.0
    np.testing.assert_array_equal(world.oracle(turned), said)


def test_recall_says_what_followed_the_earlier_occurrence_of_the_last_key() -> None:
    world = make_world("recall", num_chunks=640)
    key, value, other, answer = np.eye(4, 64)
    context = np.stack([other, answer, key, value, other, answer, key])[None]
    np.testing.assert_allclose(world.oracle(context)[0], value, atol=1e-6)
    after_keys = cosines(world).reshape(8, -1)[1::2]  # chunks 33, 35, 37 and 39 of the 40 of each article are values
    assert after_keys.min() > 0.8  # a key comes once in eight pairs, so each context has an earlier one


def test_boilerplate_goes_on_as_its_text_and_nobody_foresees_the_rest() -> None:
    found = cosines(make_world("boilerplate", num_chunks=8_000))
    assert np.mean(found > 0.999) == pytest.approx(0.5, abs=0.02)  # two of four chunks follow one of their own text
    assert np.median(found[found < 0.999]) < 0.5


def test_of_noise_nothing_is_known() -> None:
    assert np.abs(cosines(make_world("noise", num_chunks=4_000))).mean() < 0.15


def test_a_world_is_a_payload(tmp_path: Path) -> None:
    world = make_world("topic", num_chunks=400)
    payload = write_world(world, tmp_path / "topic", "topic")
    np.testing.assert_array_equal(payload.vectors, world.chunks.reshape(-1, 64))
    assert (payload.num_articles, payload.text(41)) == (10, "topic, article 1, chunk 1")


def test_the_command_writes_a_world_and_says_how_to_use_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--out", str(tmp_path / "memory")]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("context_length: 32")
    assert open_payload(tmp_path / "memory").num_rows == NUM_CHUNKS["memory"]
    assert main(["weather", "--out", str(tmp_path / "weather")]) == 2
    assert capsys.readouterr().err.startswith("world: expected one of rotation, switch, memory, ")
    with pytest.raises(UserError):
        make_world("weather")
