import hashlib

from data.seeding import derive_seed


def test_the_seed_is_the_masked_head_of_the_sha256_of_the_joined_parts() -> None:
    for epoch in range(20):
        head = int(hashlib.sha256(f"7/epoch/{epoch}".encode()).hexdigest()[:16], 16)
        assert derive_seed(7, "epoch", epoch) == head % 2**63


def test_other_parts_give_another_seed_and_all_fit_a_signed_64_bit_integer() -> None:
    seeds = {derive_seed("a", number) for number in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
