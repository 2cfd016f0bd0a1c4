"""The follower: where it lands, how fast it converges, that seeds do not mix, and why it stops."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qhlib.convex import hard_margin
from qhlib.data import gaussian_labels, separable_linear
from qhlib.flow import Euler, FlowError, Heun, follow
from qhlib.margins import negative_gradient
from qhlib.params import angle, flatten


def linear(params, X):
    return params["w"] @ X.T


def cubic(params, X):
    """Homogeneous of degree 3: log-loss flow d theta / ds = g would blow up in finite s."""
    return torch.einsum("sj,sjn->sn", params["a"], (params["W"] @ X.T) ** 2)


def relu(params, X):
    h = torch.relu(params["W"] @ X.T)
    return h[:, ::2].sum(1) - h[:, 1::2].sum(1)


def draw(seed, **shapes):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(*shape, generator=rng, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def end(*args, **options):
    *_, last = follow(*args, **options)
    return last


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.floats(3, 30), min_size=1, max_size=3, unique=True),
    st.sampled_from([Euler(), Heun()]),
)
def test_every_seed_lands_on_every_value(seed, levels, stepper):
    levels, start = sorted(levels), draw(seed, w=(3, 3))["w"]
    data = separable_linear(
        12, 3, seed, gap=1.0
    )  # well conditioned: explicit steps on stiff data take minutes
    levels = [x + 1e-3 * i for i, x in enumerate(levels)]
    states = list(follow(linear, data, {"w": 0.01 * start}, at=levels, stepper=stepper))
    for state, level in zip(states, levels, strict=True):
        assert float((state.ell - level).abs().max()) <= 1e-9 * max(1, level)
        q = state.margins
        assert torch.allclose(-torch.logsumexp(-q, 1), state.ell, rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "shapes", "stepper"),
    [(linear, {"w": (4,)}, Euler(step=0.1)), (cubic, {"W": (4, 4), "a": (4,)}, Heun(1e-4))],
)
def test_stacked_seeds_equal_seeds_alone(model, shapes, stepper):
    """To rounding. (Too long an Euler step on a stiff model amplifies rounding: 1e-15 at the start
    became 1e-5 at fidelity 0.7, with one seed as with three. So Euler is compared where it is
    faithful.)
    """
    data = gaussian_labels(6, 4, 3, mean=2.0)
    start = draw(1, **{name: (3, *shape) for name, shape in shapes.items()})
    options = {"at": [30.0], "stepper": stepper}
    together = end(model, data, start, **options)
    assert (together.fidelity > 0.9).all()
    for s in range(3):
        alone = end(model, data, {name: t[s : s + 1] for name, t in start.items()}, **options)
        mine = flatten(together.params)[s : s + 1]
        assert float((mine - flatten(alone.params)).norm() / mine.norm()) < 1e-12


def test_linear_flow_goes_to_the_hard_margin():
    data = separable_linear(12, 3, seed=2, gap=0.5)
    best = hard_margin(data)
    gaps = []
    for state in follow(linear, data, draw(0, w=(1, 3)), at=[1e2, 1e3], stepper=Heun(1e-2)):
        gaps.append(1 - float(state.margins.min() / state.params["w"].norm()) / best.value)
    assert 0 < gaps[1] < gaps[0] and gaps[1] * 1e3 == pytest.approx(
        gaps[0] * 1e2, rel=0.2
    )  # the gap falls like 1/ell
    assert float(angle(state.params["w"], torch.as_tensor(best.x)[None])) < 0.05


def reference(model, data, start, level):
    """The same curve by SciPy's DOP853, from NumPy, at rtol 1e-12."""
    like = {name: t.shape for name, t in start.items()}

    def as_params(vector):
        pieces, at = {}, 0
        for name, shape in like.items():
            size = math.prod(shape)
            pieces[name] = torch.as_tensor(vector[at : at + size]).reshape(shape)
            at += size
        return pieces

    def field(_, vector):
        g = negative_gradient(model, data, as_params(vector))[2][0].numpy()
        return g / (g @ g)

    ell0 = float(negative_gradient(model, data, start)[1])
    path = scipy.integrate.solve_ivp(
        field, (ell0, level), flatten(start)[0].numpy(), "DOP853", rtol=1e-12, atol=1e-13
    )
    return path.y[:, -1]


def test_order_of_convergence_against_an_independent_integrator():
    data, start = gaussian_labels(5, 3), draw(3, W=(1, 3, 3), a=(1, 3))
    start = end(cubic, data, start, at=[3.0], stepper=Heun(1e-3)).params
    truth = reference(cubic, data, start, 12.0)

    def error(stepper):
        reached = flatten(end(cubic, data, start, at=[12.0], stepper=stepper).params)
        return np.linalg.norm(reached[0].numpy() - truth)

    euler = [error(Euler(step=h)) for h in (0.2, 0.1, 0.05)]
    orders = np.log2(np.divide(euler[:-1], euler[1:]))
    assert (np.abs(orders - 1) < 0.15).all(), orders
    # Heun: the local error estimate is of second order, so the error follows tol
    heun = [error(Heun(tol)) for tol in (1e-4, 1e-6)]
    assert heun[1] < heun[0] / 20 and heun[1] < 1e-5 * np.linalg.norm(truth)


def test_fidelity_tells_a_smooth_flow_from_a_sliding_one():
    data = gaussian_labels(20, 10, 0)
    start = end(cubic, data, draw(0, W=(1, 6, 10), a=(1, 6)), at=[5.0], stepper=Heun()).params

    def off(model, start, at, h):
        return abs(end(model, data, start, at=at, stepper=Euler(step=h)).fidelity.item() - 1)

    smooth = [off(cubic, start, [10.0], h) for h in (0.5, 0.05, 0.005)]
    assert smooth[0] > smooth[1] > smooth[2] and smooth[2] < 1e-2
    slide = {"W": draw(1, W=(1, 20, 10))["W"] / 3}
    sliding = [off(relu, slide, [30.0, 40.0], h) for h in (0.1, 0.02)]
    assert min(sliding) > 0.02, sliding


def test_loss_far_below_the_smallest_float():
    last = end(
        cubic,
        gaussian_labels(4, 6),
        draw(0, W=(1, 3, 6), a=(1, 3)),
        at=[5e3],
        max_evaluations=20_000,
    )
    assert last.ell.item() == pytest.approx(5e3)  # L = 1e-2171
    assert torch.isfinite(last.margins).all() and last.margins.min() > 5e3


def test_start_at_the_origin_and_before_separation():
    data = separable_linear(10, 3, 0)
    last = end(linear, data, {"w": torch.zeros(1, 3, dtype=torch.float64)}, at=[20.0])
    assert last.ell.item() == pytest.approx(20, abs=1e-7)


def test_data_of_its_own_for_each_seed():
    X = torch.stack([separable_linear(8, 3, s).X for s in range(2)])
    data = separable_linear(8, 3, 0)._replace(X=X, y=torch.ones(8, dtype=torch.float64))
    model = lambda p, X: torch.einsum("sd,snd->sn", p["w"], X)  # noqa: E731
    X[:] *= torch.stack([separable_linear(8, 3, s).y for s in range(2)])[:, :, None]
    last = end(model, data, draw(0, w=(2, 3)), at=[500.0], stepper=Heun())
    for s in range(2):
        best = hard_margin(separable_linear(8, 3, s)).value
        assert float(last.margins[s].min() / last.params["w"][s].norm()) == pytest.approx(
            best, rel=2e-2
        )


def test_what_cannot_be_reached_raises_and_says_why():
    data, start = separable_linear(10, 3, 0), draw(0, w=(1, 3))
    got = []
    with pytest.raises(FlowError, match="limit of 50 evaluations: raise") as caught:
        for state in follow(linear, data, start, at=[2.0, 1e4], max_evaluations=50):
            got.append(state)
    assert len(got) == 1 and 2 < caught.value.state.ell.item() < 1e4
    assert caught.value.state.evaluations == 50
    with pytest.raises(FlowError, match="vanished"):
        end(lambda p, X: p["w"] @ X.T * 0, data, start, at=[10.0])
    with pytest.raises(FlowError, match="finite"):
        end(lambda p, X: p["w"] @ X.T * math.nan, data, start, until=10.0)
    opposite = data._replace(X=torch.cat([data.X, -data.X]), y=torch.cat([data.y, data.y]))
    with pytest.raises(FlowError):
        end(linear, opposite, start, at=[10.0], max_evaluations=200)


def test_without_at_every_step_is_a_state():
    data, start = separable_linear(10, 3, 0), draw(0, w=(2, 3))
    states = list(follow(linear, data, start, until=20.0))
    assert [s.steps for s in states] == list(range(len(states)))
    assert (states[-1].ell >= 20).all() and not (states[-2].ell >= 20).all()
    for _ in zip(
        range(5), follow(linear, data, start), strict=False
    ):  # the caller may leave at any time
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"at": []},
        {"at": [2.0, 1.0]},
        {"at": [1.0, 1.0]},
        {"at": [math.nan, 1.0]},
        {"at": [-1e6]},
    ],
)
def test_bad_values_of_at_raise(options):
    with pytest.raises(ValueError):
        next(follow(linear, separable_linear(10, 3, 0), draw(0, w=(1, 3)), **options))


@pytest.mark.parametrize(
    ("stepper", "options"),
    [
        (Euler, {"step": 0.0}),
        (Euler, {"step": -1.0}),
        (Euler, {"step": math.nan}),
        (Euler, {"stretch": 0.0}),
        (Heun, {"tol": 0.0}),
        (Heun, {"tol": 2.0}),
        (Heun, {"step": 0.0}),
    ],
)
def test_bad_steps_raise(stepper, options):
    with pytest.raises(ValueError):
        stepper(**options)
