"""LOST against a slow version that follows the paper patch by patch, with exact whole-number arithmetic."""

import pkgutil
import subprocess
import sys
from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from vit_registers.experiments import object_discovery
from vit_registers.experiments.object_discovery import lost


def slow(features, grid, k, centre=False, bias=0):
    """The box, or None where there is none, and what was decided on the way, of one image's features (p, d)."""
    p, d = features.shape
    f = [[Fraction(float(value)) for value in patch] for patch in features]
    if centre:
        mean = [sum(patch[c] for patch in f) / p for c in range(d)]
        f = [[value - mean[c] for c, value in enumerate(patch)] for patch in f]
    a = [[sum(x * y for x, y in zip(f[i], f[j], strict=True)) + Fraction(bias) for j in range(p)] for i in range(p)]
    degree = [sum(1 for j in range(p) if j != i and a[i][j] > 0) for i in range(p)]
    ranked = sorted(range(p), key=lambda i: (degree[i], i))
    seed = ranked[0]
    kept = {seed} | {i for i in ranked[:k] if a[seed][i] > 0}
    mask = {j for j in range(p) if sum(a[i][j] for i in kept) > 0}
    component, waiting = set(), deque([seed] if seed in mask else [])
    while waiting:
        patch = waiting.popleft()
        if patch in component or patch not in mask:
            continue
        component.add(patch)
        y, x = divmod(patch, grid[1])
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < grid[0] and 0 <= u < grid[1]:
                waiting.append(v * grid[1] + u)
    if not component:
        return None, degree, seed, kept, mask, component
    ys, xs = zip(*(divmod(patch, grid[1]) for patch in component), strict=True)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1], degree, seed, kept, mask, component


def run(features, grid, k, centre=False, bias=0.0):
    return lost.discover(lost.similarity(features, False, centre), grid, k, bias)


def check(features, grid, k, centre=False, bias=0.0):
    """Every step of every image; the number of images with a box, and without."""
    steps = run(features, grid, k, centre, bias)
    absent = 0
    for i, image in enumerate(features):
        box, degree, seed, kept, mask, component = slow(image, grid, k, centre, bias)
        assert steps.degree[i].tolist() == degree
        assert steps.seed[i] == seed
        assert set(np.flatnonzero(steps.kept[i])) == kept
        assert set(np.flatnonzero(steps.mask[i])) == mask
        assert set(np.flatnonzero(steps.component[i])) == component
        if box is None:
            assert np.isnan(steps.box[i]).all()
            absent += 1
        else:
            assert steps.box[i].tolist() == box
    return len(features) - absent, absent


def whole(rng, n, p, d, most):
    """Features that are small whole numbers over 4: sums and products of them are exact in float32."""
    return (rng.integers(-most, most + 1, size=(n, p, d)) / 4).astype(np.float16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "k", "centre", "bias"),
    [((6, 6), 4, False, 0.0), ((4, 8), 6, True, 0.0), ((5, 7), 100, False, 0.0), ((8, 4), 6, False, -0.25)],
)
def test_200_random_maps(grid, k, centre, bias):
    rng = np.random.default_rng(grid[0])
    found, _ = check(whole(rng, 50, grid[0] * grid[1], 4, 4), grid, k, centre, bias)
    assert found > 25


def test_50_maps_of_few_values_where_degrees_tie_and_similarities_vanish():
    rng = np.random.default_rng(0)
    features = rng.choice([-1.0, 0.0, 1.0], size=(50, 20, 3), p=[0.3, 0.4, 0.3]).astype(np.float32)
    found, absent = check(features, (4, 5), 3)
    assert found > 5
    assert absent > 5  # a seed of zeros is similar to nothing, not even to itself


def structured():
    """Maps (32 patches on 4 x 8) with a known answer."""
    maps = {}
    maps["all the same"] = np.tile([1.0, 0.0], (32, 1))
    maps["nothing"] = np.zeros((32, 2))
    block = np.tile([-1.0, 0.0], (4, 8, 1))
    block[1:3, 5:8] = [1.0, 0.0]
    maps["object on background"] = block.reshape(32, 2)
    two = block.copy()
    two[0:2, 0:2] = [1.0, 0.0]
    maps["two objects alike"] = two.reshape(32, 2)
    corner = np.tile([-1.0, 0.0], (4, 8, 1))
    corner[0, 0] = corner[1, 1] = corner[2, 2] = [1.0, 0.0]
    maps["touching at corners"] = corner.reshape(32, 2)
    checks = np.tile([1.0, 0.0], (4, 8, 1))
    checks[(np.indices((4, 8)).sum(axis=0) % 2) == 1] = [-1.0, 0.0]
    maps["checkerboard"] = checks.reshape(32, 2)
    return maps


BOXES = {
    "all the same": [0, 0, 8, 4],
    "nothing": [np.nan] * 4,
    "object on background": [5, 1, 8, 3],
    "two objects alike": [0, 0, 2, 2],
    "touching at corners": [0, 0, 1, 1],
    "checkerboard": [0, 0, 1, 1],
}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("k", [1, 6, 100])
def test_structured_maps(name, k):
    features = structured()[name].astype(np.float32)[None]
    check(features, (4, 8), k)
    np.testing.assert_array_equal(run(features, (4, 8), k).box[0], BOXES[name])


def test_an_image_does_not_depend_on_those_beside_it():
    features = np.stack(list(structured().values())).astype(np.float32)
    together = run(features, (4, 8), 6)
    for i in range(len(features)):
        alone = run(features[i : i + 1], (4, 8), 6)
        for name in lost.Steps.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(together, name)[i], getattr(alone, name)[0])


def test_the_seed_is_kept_even_where_it_is_not_similar_to_itself():
    similar = np.full((1, 4, 4), 1.0, dtype=np.float32)
    similar[0, 2] = similar[0, :, 2] = -1.0
    steps = lost.discover(similar, (2, 2), 4)
    assert steps.seed[0] == 2
    assert np.flatnonzero(steps.kept[0]).tolist() == [2]
    assert not steps.mask.any()
    assert np.isnan(steps.box).all()


def test_similarity_of_normalised_and_centred_patches():
    rng = np.random.default_rng(3)
    features = rng.standard_normal((3, 10, 5)).astype(np.float16)
    for i, image in enumerate(features.astype(float)):
        centred = image - image.mean(axis=0)
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        raw = lost.similarity(features, normalise=False, centre=False)[i]
        both = lost.similarity(features, normalise=True, centre=True)[i]
        np.testing.assert_allclose(raw, image @ image.T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(both, unit @ unit.T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(np.diag(both), 1.0, rtol=1e-5)


def test_patches_that_are_all_zero_can_be_normalised():
    assert np.isfinite(lost.similarity(np.zeros((1, 4, 3), dtype=np.float16), True, True)).all()


@pytest.mark.slow
def test_lost_and_the_steps_around_it_need_no_torch():
    """Of the experiment only the sweep passes images through a model; the others read features and rows."""
    names = {module.name for module in pkgutil.iter_modules(object_discovery.__path__)} - {"sweep"}
    assert {"lost", "dino_seg", "measure", "tables", "figures"} <= names
    modules = [f"{object_discovery.__name__}.{name}" for name in sorted(names)]
    modules += [f"vit_registers.{name}" for name in ("experiments.job", "experiments.comparisons.measure")]
    modules += [f"vit_registers.{name}" for name in ("pipeline.collecting", "views.engine")]
    code = "import importlib, sys\n[importlib.import_module(name) for name in sys.argv[1:]]\n"
    code += "print(sorted({'torch', 'torchvision', 'timm', 'open_clip'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
