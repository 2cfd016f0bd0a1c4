"""Neural collapse: each claim can fail, fresh seeds reproduce it, bad parameters are refused.

A mutation breaks one law or model; its claim must turn. Independent ones share a run.
"""

import math
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
import torch

from qhlib import collapse
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError
from tests.notebooks.play import declared, namespace, notebook, verdicts

NAME = "neural_collapse"
# seeds that nothing was tuned on, the one that everybody types, and the largest
SEEDS = [20261126, 1_999_999_973, 42, 2147483647]


@cache
def smoke(seed: int) -> dict:
    """All names that a smoke run leaves."""
    return namespace(NAME, effort="smoke", seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_smoke_reproduces_every_claim(seed):
    found = {name: claim.verdict for name, claim in smoke(seed)["chapter"].claims.items()}
    assert set(found) == declared(NAME)
    assert set(found.values()) == {"reproduced"}, found


LOG_K = "/ (ell + math.log(n_margins))"
EQUAL = "torch.arange(len(chosen)) % len(digits)"
UNEQUAL = "torch.clamp(torch.arange(len(chosen)) // 4, max=len(digits) - 1)"
CALL = "bound(normalize, n_classes, d)"
BOUND = "collapse.margin_bound(classes, 1 if normalize is unit_norm else d)"


@pytest.mark.parametrize(
    "mutations",
    [
        {  # wrong exponents and models
            "largest-margin": (
                "r = smallest_margin(H, labels, W)",
                "r = 1.001 * smallest_margin(H, labels, W)",
            ),
            "certified-limit": (
                f"limit.margin.item() / {CALL}",
                f"limit.margin.item() / (1.001 * {CALL})",
            ),
            "nc1-gaussian": ("(x[1] ** 2 - x[0] ** 2)", "(x[1] - x[0])"),
            "nc3-memory": (LOG_K, LOG_K.replace("(ell", "(ell**0.99")),
            "images": (EQUAL, UNEQUAL),
            "unequal-classes": ("math.sqrt(t / C)", "math.sqrt(t) / C"),
        },
        {  # wrong constants: S = d for unit norm, C - 1 for C, a mean loss, counts ignored
            "largest-margin": (BOUND, "collapse.margin_bound(classes, d)"),
            "nc1-gaussian": (
                "(len(labels) * n_classes * feature_norm**2)",
                "(len(labels) * (n_classes - 1) * feature_norm**2)",
            ),
            "nc3-memory": (LOG_K, "/ (ell + math.log(n_classes - 1))"),
            "unequal-classes": (
                "math.sqrt(C - 1 + t) + math.sqrt(t / C)",
                "math.sqrt(C) + C**-0.5",
            ),
        },
    ],
)
def test_a_wrong_law_turns_its_claim(mutations):
    found = verdicts(NAME, list(mutations.values()), effort="smoke", seed=3)
    assert {name: found[name] for name in mutations} == dict.fromkeys(mutations, "deviates")


def test_a_network_that_has_not_converged_is_an_error():
    with pytest.raises(RuntimeError, match="has not converged"):
        namespace(NAME, [("(6, 240)", "(6, 5)")], effort="smoke")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("digits", [3]),
        ("digits", [3, 3]),
        ("digits", [3, 10]),
        ("imbalance", [4, 2]),
        ("imbalance", [2, 2]),
        ("imbalance", [4]),
        ("n_classes", 2),
        ("head_scale", 0.0),
        ("feature_norm", math.nan),
        ("seed", -1),
        ("samples", 4),
    ],
)
def test_parameters_that_cannot_run_are_refused(name, value):
    with pytest.raises(ParameterError, match=name):
        validate(notebook(NAME).declaration, {name: value})


# ---------------------------------------------------------------- what the page relies on


def test_cross_entropy_is_the_exponential_loss_of_its_own_margins():
    names = smoke(SEEDS[0])
    X, y = torch.zeros(5, 0), torch.tensor([0, 1, 2, 0, 1])
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 5, 3, dtype=torch.float64, generator=rng)
    Q = names["cross_entropy"](lambda params, X: params["s"], y)
    for scale in (1.0, 10.0, 30.0):
        exact = torch.nn.functional.cross_entropy(scale * scores[0], y, reduction="none")
        assert torch.allclose(torch.exp(-Q({"s": scale * scores}, X))[0], exact, rtol=1e-9)
    far = torch.zeros(1, 5, 3, dtype=torch.float64)
    far[0, torch.arange(5), y] = 5000.0  # a loss of 2 e^-5000
    assert torch.allclose(Q({"s": far}, X), torch.tensor(5000 - math.log(2)).double())


def test_the_flow_conserves_the_heads_mean_and_the_raw_features_lengths():
    names = smoke(SEEDS[0])
    for setting, runs in names["flows"].items():
        for run in runs:
            means = run["W"].mean(1)
            assert (means - run["start"]["W"].mean(1)).abs().max() < 1e-8, setting
            if setting.startswith("unit norm"):
                drift = run["end"]["Z"].norm(dim=-1) / names["feature_norm"] - 1
                assert drift.abs().max() < 1e-3, setting


@pytest.mark.parametrize("seed", range(5))
def test_the_heads_mean_is_a_floor_of_nc3(seed):
    rng = torch.Generator().manual_seed(seed)
    H, W = (torch.randn(1, n, 5, dtype=torch.float64, generator=rng) for n in (12, 4))
    floor = 2 * W.mean(1).norm() / W.norm()
    assert collapse.nc3(collapse.centered_means(H, torch.arange(12) % 4), W) >= floor - 1e-12


@pytest.mark.parametrize(("C", "t"), [(2, 3), (3, 1), (3, 4), (4, 2), (4, 8), (6, 5)])
def test_the_closed_form_for_unequal_classes_is_the_convex_optimum(C, t):
    """min |D^(1/2) K|_* over class scores K with p^T K = 0 and margins of at least 1."""
    p = np.array([1.0] * (C - 1) + [t]) / (C - 1 + t)
    K = cp.Variable((C, C))
    margins = [K[a, a] - K[a, b] >= 1 for a in range(C) for b in range(C) if a != b]
    nuclear = cp.normNuc(cp.multiply(np.sqrt(p)[:, None] @ np.ones((1, C)), K))
    problem = cp.Problem(cp.Minimize(nuclear), [*margins, p @ K == 0])
    problem.solve(solver="CLARABEL")
    expected = (C - 1) / math.sqrt(C) / problem.value
    assert smoke(SEEDS[0])["closed_form"](t, C) == pytest.approx(expected, rel=1e-6)


def test_two_unequal_classes_by_hand():
    """The larger class has the shorter mean: r = sqrt(n_small / n_large)."""
    assert smoke(SEEDS[0])["closed_form"](4, 2) == pytest.approx(0.5, rel=1e-12)
    climb = smoke(SEEDS[0])["largest_margin"]
    names = smoke(SEEDS[0])
    assert climb(4, names["batch_norm"], 2) == pytest.approx(0.5, abs=1e-4)
