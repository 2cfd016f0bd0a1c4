"""Models against formulas written a second time, in plain loops; rates against random scaling."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.data import Data
from qhlib.homogeneity import euler_defect, gradient_defect, scaling_defect
from qhlib.margins import margins, negative_gradient
from qhlib.models import (
    apply,
    batch_norm,
    deep_relu,
    deep_relu_rates,
    deep_relu_shapes,
    diagonal,
    diagonal_rates,
    diagonal_shapes,
    diagonal_weights,
    draw,
    layer_norm,
    linear,
    two_layer,
)

SEEDS = st.integers(0, 2**31 - 1)
EXACT = 1e-12


def inputs(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected) -> bool:
    return torch.allclose(
        actual, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=20, deadline=None)
def test_two_layer_is_the_sum_over_units(seed, slope):
    params, X = draw({"W": (4, 3)}, n_seeds=2, seed=seed), inputs(5, 3, seed)
    W, x = params["W"].numpy(), X.numpy()
    signs = [1, 1, -1, -1]
    expected = [
        [
            sum(s * max(w @ xi, slope * (w @ xi)) for s, w in zip(signs, Ws, strict=True))
            / np.sqrt(4)
            for xi in x
        ]
        for Ws in W
    ]
    assert close(two_layer(params, X, slope=slope), expected)


@given(SEEDS, st.lists(st.integers(1, 4), min_size=2, max_size=5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_deep_relu_is_the_composition_of_its_layers(seed, widths, bias):
    params, X = (
        draw(deep_relu_shapes(widths, bias=bias), n_seeds=2, seed=seed),
        inputs(3, widths[0], seed),
    )
    scores = deep_relu(params, X)
    depth = len(widths) - 1
    for s in range(2):
        for i, x in enumerate(X.numpy()):
            h = x
            for layer in range(1, depth + 1):
                h = params[f"W{layer}"][s].numpy() @ h
                h = h + params[f"b{layer}"][s].numpy() if bias else h
                h = np.maximum(h, 0) if layer < depth else h
            assert close(scores[s, i], h[0] if widths[-1] == 1 else h)


@given(SEEDS, st.lists(st.integers(1, 4), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_diagonal_is_a_product_per_coordinate(seed, depths):
    params, X = draw(diagonal_shapes(depths), n_seeds=2, seed=seed), inputs(3, len(depths), seed)
    used = dict.fromkeys(params, 0)
    beta = np.ones((2, len(depths)))
    for i, depth in enumerate(depths):
        for j in range(1, depth + 1):
            beta[:, i] *= params[f"theta{j}"][:, used[f"theta{j}"]].numpy()
            used[f"theta{j}"] += 1
    assert close(diagonal_weights(params, depths=depths), beta)
    assert close(diagonal(params, X, depths=depths), beta @ X.numpy().T)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_linear_with_and_without_bias_and_classes(seed):
    X = inputs(4, 3, seed)
    one = draw({"w": (3,), "b": ()}, n_seeds=2, seed=seed)
    expected = [(X.numpy() @ one["w"][s].numpy() + one["b"][s].item()).tolist() for s in range(2)]
    assert close(linear(one, X), expected)
    many = draw({"w": (5, 3), "b": (5,)}, n_seeds=2, seed=seed)
    expected = np.stack(
        [X.numpy() @ many["w"][s].numpy().T + many["b"][s].numpy() for s in range(2)]
    )
    assert close(linear(many, X), expected)
    assert linear({"w": one["w"]}, X).shape == (2, 4)


def weight_rates(depth: int):
    """Positive numbers that sum to one."""
    positive = st.floats(0.05, 1.0)
    return st.lists(positive, min_size=depth, max_size=depth).map(
        lambda r: [x / sum(r) for x in r]
    )


def cases(seed: int, first: list[float]):
    """Each model with one of its Lambdas, at random parameters."""
    depth = len(first)
    depths = [1 + (seed + 3 * i) % 4 for i in range(4)]
    widths = [4] + [5] * (depth - 1)
    yield linear, {"w": 1.0}, {"w": (4,)}
    yield linear, {"w": 1.0, "b": 1.0}, {"w": (3, 4), "b": (3,)}
    yield partial(two_layer, slope=0.3), {"W": 1.0}, {"W": (6, 4)}
    yield deep_relu, deep_relu_rates(first), deep_relu_shapes([*widths, 1])
    yield partial(deep_relu, slope=0.2), deep_relu_rates(first), deep_relu_shapes([*widths, 3])
    yield deep_relu, deep_relu_rates(depth, bias=False), deep_relu_shapes([*widths, 1], bias=False)
    yield partial(diagonal, depths=depths), diagonal_rates(depths), diagonal_shapes(depths)


@given(SEEDS, st.integers(1, 4).flatmap(weight_rates), st.floats(-1.5, 1.5))
@settings(max_examples=25, deadline=None)
def test_every_model_has_the_rates_beside_it(seed, first, a):
    X = inputs(6, 4, seed)
    for model, rates, shapes in cases(seed, first):
        params = draw(shapes, n_seeds=2, seed=seed)
        if (model(params, X).flatten(1).abs().amax(1) < 0.1).any():
            continue  # nearly dead networks: relative errors say nothing there
        assert scaling_defect(model, params, X, rates, a).max() < EXACT
        assert euler_defect(model, params, X, rates).max() < EXACT
        assert gradient_defect(model, params, X, rates, a).max() < EXACT


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_inputs_may_differ_by_seed_and_seeds_do_not_interact(seed):
    X = torch.stack([inputs(5, 4, seed), inputs(5, 4, seed + 1)])
    for model, _, shapes in cases(seed, [0.5, 0.5]):
        both = draw(shapes, n_seeds=2, seed=seed)
        for s in range(2):
            alone = draw(shapes, n_seeds=1, seed=seed + s)
            assert close(model(both, X)[s], model(alone, X[s])[0])


def test_the_gradient_agrees_with_central_differences():
    X, y = inputs(6, 4, 0), torch.tensor([1.0, -1, 1, -1, 1, -1], dtype=torch.float64)
    for model, _, shapes in cases(0, [0.3, 0.7]):
        params = draw(shapes, n_seeds=1, seed=1)
        binary = model(params, X).ndim == 2
        data = Data(X, y if binary else torch.arange(6) % 3)
        _, _, g = negative_gradient(model, data, params)
        step, numeric = 1e-6, []
        for t in params.values():
            for index in range(t.numel()):
                sides = []
                for sign in (1, -1):
                    t.view(-1)[index] += sign * step
                    sides.append(-torch.logsumexp(-margins(model, data, params), 1))
                    t.view(-1)[index] -= sign * step
                numeric.append((sides[0] - sides[1]) / (2 * step))
        # central differences: h^2 truncation and eps/h rounding are both near 1e-10
        assert (torch.cat(numeric) - g[0]).abs().max() < 1e-7 * max(1, g.abs().max().item())


@given(SEEDS, st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_normalisations_have_unit_variance_and_do_not_see_scale(seed, scale):
    Z = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for norm, axis in ((batch_norm, 1), (layer_norm, 2)):
        out = norm(Z)
        assert close(out.mean(axis), torch.zeros_like(out.mean(axis)))
        assert close(out.var(axis, correction=0), torch.ones_like(out.mean(axis)))
        assert close(norm(scale * Z), out)
    assert close(layer_norm(Z).norm(dim=2), torch.full((2, 6), 5**0.5, dtype=torch.float64))


def test_draw_is_reproducible_seed_by_seed_and_scales_by_name():
    shapes = {"W": (3, 2), "b": (3,)}
    state = torch.get_rng_state()
    wide = draw(shapes, n_seeds=3, seed=10, scale={"W": 2.0, "b": 0.0})
    assert torch.equal(state, torch.get_rng_state())
    narrow = draw(shapes, n_seeds=1, seed=12)
    assert torch.equal(wide["W"][2], 2 * narrow["W"][0]) and wide["b"].abs().max() == 0
    assert wide["W"].dtype == torch.float64


def test_shared_inputs_and_repeated_inputs_give_the_same():
    W, X = inputs(6, 4, 0).reshape(2, 3, 4), inputs(5, 4, 1)
    assert close(apply(W, X), apply(W, X.expand(2, -1, -1)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: two_layer({"W": torch.ones(1, 3, 2)}, torch.ones(1, 2)), "even"),
        (lambda: deep_relu_rates([0.5, 0.6]), "sum to 1"),
        (lambda: deep_relu_rates([-0.5, 1.5]), "sum to 1"),
        (lambda: deep_relu_rates([]), "sum to 1"),
        (lambda: diagonal_shapes([]), "at least one"),
        (lambda: diagonal_shapes([0, 1]), "positive"),
        (lambda: draw({"w": (1,)}, n_seeds=0), "positive"),
    ],
)
def test_bad_arguments_are_refused_with_a_message(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
