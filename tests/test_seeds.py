import numpy as np

from backdoor_core import seeds


def test_streams_are_reproducible_and_differ_by_purpose_key_and_seed():
    draws = {
        (seed, purpose, keys): tuple(seeds.generator(seed, purpose, *keys).integers(2**62, size=4))
        for seed in (0, 42)
        for purpose in ("splits", "training", "bootstrap")
        for keys in ((), (0,), (1,))
    }
    assert len(set(draws.values())) == len(draws)
    assert tuple(seeds.generator(42, "splits").integers(2**62, size=4)) == draws[42, "splits", ()]


def test_streams_do_not_depend_on_how_much_another_drew():
    seeds.generator(7, "splits").random(1000)
    first = seeds.generator(7, "training").random()
    assert first == seeds.generator(7, "training").random()


def test_streams_are_uncorrelated():
    one, other = (seeds.generator(3, purpose).standard_normal(20_000) for purpose in ("poison_rows", "trigger_fit"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_integer_fits_what_libraries_take():
    values = [seeds.integer(seed, "training") for seed in range(200)]
    assert len(set(values)) == 200
    assert all(0 <= value < 2**63 for value in values)
