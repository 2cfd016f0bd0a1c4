"""What the engine costs and how close it stays to the flow, beside the methods that others use.
Run by `make bench`.

Every ratio comes from one run: the competitors take turns, times are CPU seconds of this process
(one thread), and the median over the repeats is reported. Prints tables, writes JSON (--json) and,
with --plot, the cost plot.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import time
from functools import partial
from itertools import islice

os.environ.setdefault("OMP_NUM_THREADS", "1")

import baselines  # noqa: E402
import numpy as np  # noqa: E402
import scipy.integrate  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from qhlib.convex import hard_margin  # noqa: E402
from qhlib.data import (  # noqa: E402
    Data,
    gaussian_labels,
    generator,
    nearly_orthogonal,
    separable_linear,
)
from qhlib.flow import Affine, Euler, FlowError, Heun, follow  # noqa: E402
from qhlib.margins import negative_gradient  # noqa: E402
from qhlib.models import draw, second_layer, two_layer  # noqa: E402
from qhlib.models import linear as linear_model  # noqa: E402
from qhlib.params import angle  # noqa: E402

SLOPE = 0.5
LOG10 = np.log(10)


def start(m: int, d: int, seeds: int = 1, seed: int = 0) -> torch.Tensor:
    """W ~ N(0, 1/d), (S, m, d)."""
    return torch.randn(seeds, m, d, generator=generator(seed + 100), dtype=torch.float64) / d**0.5


def in_span(data: Data) -> tuple[Data, torch.Tensor]:
    """The data in coordinates of their span, and its basis: weights move only there."""
    Q = torch.linalg.qr(data.X.T)[0]
    return Data(data.X @ Q, data.y), Q


def cpu(function) -> tuple[float, object]:
    began = time.process_time()
    result = function()
    return time.process_time() - began, result


def fidelity(quick: bool) -> dict:
    """Direction error at L = 1e-43, 1e-304, 1e-1000, d=500, in the kink-free case and from a
    random start."""
    levels = [43 * LOG10, 304 * LOG10, 1000 * LOG10]
    data, basis = in_span(gaussian_labels(20, 500, 0))
    model = partial(two_layer, slope=SLOPE)
    evaluate = baselines.two_layer(data.X.numpy(), data.y.numpy(), second_layer(50).numpy(), SLOPE)

    def field(_, theta):
        g = evaluate(theta)[1]
        return g / (g @ g)

    # What is orthogonal to the data never moves and belongs to neither direction. Kink-free: every
    # unit starts on the side where its samples pull it, plus noise, before separation (ell =
    # -0.4). The network is then linear along the whole flow, which forgets its errors: the easy
    # case. A random start crosses kinks, early on also slides along them.
    pull = 1e-3 * 50**0.5 * second_layer(50)[:, None] * (data.y @ data.X)
    starts = {
        "kink-free": pull[None] + 0.1 * start(50, 500) @ basis,
        "random": start(50, 500) @ basis,
    }
    out = {"levels": levels}
    for kind, W in starts.items():
        theta0 = W.numpy().ravel()
        if kind == "kink-free":
            options = {"t_eval": levels, "rtol": 1e-11, "atol": 1e-12}
            span = (evaluate(theta0)[0], levels[-1])
            truth = list(scipy.integrate.solve_ivp(field, span, theta0, "DOP853", **options).y.T)
            reference, doubt = "DOP853, rtol 1e-11", None
        else:  # adaptive solvers stall on sliding: Euler at two tiny steps, which tell the doubt
            truth, rough = (
                euler_reference(model, data, W, levels, step) for step in (0.002, 0.004)
            )
            reference, doubt = (
                "Euler, step 0.002",
                [separation(u, v) for u, v in zip(truth, rough, strict=True)],
            )
        rows = fidelity_rows(model, data, W, evaluate, levels, truth)
        if kind == "kink-free":
            rows.append(torchdiffeq_row(data, theta0, evaluate(theta0)[0], levels, truth))
        pattern = lambda theta: theta.reshape(50, -1) @ data.X.numpy().T > 0  # noqa: E731
        crossed = int((pattern(theta0) != pattern(truth[-1])).sum())
        out[kind] = {
            "rows": rows,
            "reference": reference,
            "reference_doubt": doubt,
            "patterns_changed": crossed,
        }
    return out


def separation(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two directions, exact for tiny ones."""
    u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))


def euler_reference(model, data, W, levels, step) -> list[np.ndarray]:
    """Euler with tiny steps while kinks are crossed (to ell = 60), then with steps 100 times as
    long."""
    (state,) = follow(model, data, {"W": W}, at=[60.0], stepper=Euler(step))
    states = follow(model, data, state.params, at=levels, stepper=Euler(100 * step))
    return [s.params["W"].numpy().ravel() for s in states]


def fidelity_rows(model, data, W, evaluate, levels, truth) -> list[dict]:
    theta0, rows = W.numpy().ravel(), []

    def ours(name, stepper):
        states = []

        def run():
            try:
                states.extend(follow(model, data, {"W": W}, at=levels, stepper=stepper))
            except FlowError as error:
                states.append(error.state)

        seconds, _ = cpu(run)
        ends = [
            separation(s.params["W"].numpy().ravel(), t)
            for s, t in zip(states, truth, strict=False)
        ]
        errors = ends if states[-1].ell >= levels[-1] - 1e-6 else [None] * 3
        evaluations = states[-1].evaluations
        rows.append(
            {"method": name, "errors": errors, "gradients": evaluations, "seconds": seconds}
        )

    ours("engine, Euler, step 1", Euler())
    ours("engine, Euler, step 0.1", Euler(0.1))
    ours("engine, Heun, tol 1e-4", Heun(1e-4))

    def theirs(name, method):
        errors, seconds, gradients = [], 0.0, 0
        for level, exact in zip(levels, truth, strict=True):
            s, c, theta, reached = baselines.race(
                method, lambda t, level=level: evaluate(t)[0] >= level, seconds=10, growth=1.0
            )
            seconds, gradients = seconds + s, gradients + c
            errors.append(separation(theta, exact) if reached else None)
        rows.append({"method": name, "errors": errors, "gradients": gradients, "seconds": seconds})

    theirs("Lyu & Li", baselines.lyu_li(evaluate, theta0))
    theirs("normalised GD, lr 0.05", baselines.normalised_gd(evaluate, theta0, 0.05))
    theirs("PRGD, lr 0.1, growth 1.1, 5 steps", baselines.prgd(evaluate, theta0, 0.1, 1.1, 5))
    return rows


def torchdiffeq_row(data, theta0, ell0, levels, truth) -> dict:
    """torchdiffeq's dopri5 in loss time, with the closed-form gradient (no autograd: in its
    favour)."""
    from torchdiffeq import odeint

    X, y, a = data.X, data.y, second_layer(50)
    count = 0

    def field(_, theta):
        nonlocal count
        count += 1
        z = X @ theta.reshape(50, -1).T
        slopes = torch.where(z > 0, 1.0, SLOPE).to(z)
        w = torch.softmax(-(y * ((slopes * z) @ a)), 0)
        g = (((w * y)[:, None] * slopes * a).T @ X).reshape(-1)
        return g / (g @ g)

    at = torch.tensor([ell0, *levels], dtype=torch.float64)
    seconds, path = cpu(
        lambda: odeint(field, torch.as_tensor(theta0), at, rtol=1e-6, atol=1e-9, method="dopri5")
    )
    errors = [
        separation(theta.numpy(), exact) for theta, exact in zip(path[1:], truth, strict=True)
    ]
    return {
        "method": "torchdiffeq dopri5, rtol 1e-6",
        "errors": errors,
        "gradients": count,
        "seconds": seconds,
    }


def linear_gap(quick: bool) -> dict:
    """Linear, n=200, d=20: CPU time to a relative margin gap of 1e-3 and 1e-6."""
    rows = []
    for seed in range(1 if quick else 3):
        data = separable_linear(200, 20, seed)
        best = hard_margin(data)
        A = (data.X * data.y[:, None]).numpy()
        w0 = 1e-3 * torch.randn(1, 20, generator=generator(seed), dtype=torch.float64)

        def gap(theta, A=A, best=best):
            return 1 - (A @ theta).min() / np.linalg.norm(theta) / best.value

        def engine(goal, data=data, w0=w0, gap=gap):
            # the caller looks every half decade, near the goal every twentieth of one
            at = [10 ** (k / 2) for k in range(4, 12)] + [10 ** (5.8 + k / 20) for k in range(25)]
            # a looser solver leaves the gap alone and moves the flow's ell by 1e-5 of itself: see
            # the column fidelity
            for state in follow(linear_model, data, {"w": w0}, at=at, stepper=Affine(rtol=1e-5)):
                if gap(state.params["w"][0].numpy()) <= goal:
                    return state
            return state

        evaluate, theta0 = baselines.linear(A), w0[0].numpy()
        sharp = 1 / float((A * A).sum(1).max())
        duals = [baselines.dual_acceleration(A, theta0, step) for step in (0.5, 1.0, 2.0, 4.0)]
        tunings = ((0.1, 1.02, 5), (0.1, 1.2, 20), (1, 1.02, 5), (1, 1.1, 5), (1, 1.2, 20))
        rates = (sharp, 10 * sharp)
        contenders = {  # every tuning, and its limit in seconds
            "dual acceleration": (duals, 6),
            "PRGD": ([baselines.prgd(evaluate, theta0, *tuning) for tuning in tunings], 1),
            "Lyu & Li": ([baselines.lyu_li(evaluate, theta0, sharp)], 4),
            "normalised GD": (
                [baselines.normalised_gd(evaluate, theta0, lr) for lr in (0.1, 1.0)],
                1,
            ),
            "plain GD": ([baselines.gradient_descent(evaluate, theta0, lr) for lr in rates], 1),
        }
        cpu(lambda: engine(1e-3))
        ours = {}
        for goal in (1e-3, 1e-6):
            times, states = zip(
                *(cpu(lambda goal=goal: engine(goal)) for _ in range(5)), strict=True
            )
            last = states[-1]
            ours[goal] = (
                float(np.median(times)),
                last.evaluations,
                gap(last.params["w"][0].numpy()),
                last,
            )
        row = {"seed": seed, "method": "engine, log-loss time"}
        for goal, (seconds, gradients, reached, last) in ours.items():
            row[f"{goal:g}"] = {"seconds": seconds, "gradients": gradients, "gap": reached}
            row["fidelity"] = last.fidelity.item()
        rows.append(row)
        for name, (methods, limit) in contenders.items():
            rows.append({"seed": seed, "method": name, **min_over(methods, gap, quick, limit)})
        seconds, _ = cpu(lambda data=data: [hard_margin(data) for _ in range(5)])
        rows.append(
            {
                "seed": seed,
                "method": "the limit alone, NNLS",
                "1e-06": {"seconds": seconds / 5, "gap": best.gap},
            }
        )
    return {"rows": rows}


def min_over(methods, gap, quick, seconds) -> dict:
    """The best of a method's tunings for each goal (each tuning runs once, through both goals)."""
    out = {"1e-03": {"seconds": None}, "1e-06": {"seconds": None}}
    for method in methods:
        spent = gradients = 0
        for goal in (1e-3, 1e-6):
            s, c, theta, reached = baselines.race(
                method, lambda t, goal=goal: gap(t) <= goal, seconds=seconds / (4 if quick else 1)
            )
            spent, gradients, key = spent + s, gradients + c, f"{goal:.0e}"
            best = out[key]
            if reached and (best["seconds"] is None or spent < best["seconds"]):
                out[key] = {"seconds": spent, "gradients": gradients, "gap": float(gap(theta))}
            if not reached:  # then nor will it reach the next goal
                for later in out.values():
                    if later["seconds"] is None and np.isfinite(gap(theta)):
                        later["gap"] = min(float(gap(theta)), later.get("gap", 1.0))
                break
    return {"0.001" if k == "1e-03" else k: v for k, v in out.items()}


def overhead(quick: bool) -> dict:
    """Seed-steps per second, n=20, d=m=50: the textbook loop, the engine with one seed and with
    16."""
    data, basis = in_span(gaussian_labels(20, 50, 0))
    full = gaussian_labels(20, 50, 0)
    model, steps, rates = (
        partial(two_layer, slope=SLOPE),
        300,
        {"textbook": [], "one": [], "stacked": []},
    )

    def engine(seeds):
        W = start(50, 50, seeds) @ basis

        def run():
            with contextlib.suppress(FlowError):
                list(follow(model, data, {"W": W}, at=[1e9], max_evaluations=steps + 1))

        return run

    runs = {
        "textbook": (lambda: baselines.textbook_loop(full.X, full.y, 50, SLOPE, steps), 1),
        "one": (engine(1), 1),
        "stacked": (engine(16), 16),
    }
    for _ in range(3 if quick else 9):
        for name, (run, seeds) in runs.items():
            rates[name].append(seeds * steps / cpu(run)[0])
    out = {name: float(np.median(values)) for name, values in rates.items()}
    out["ratio_textbook"] = float(np.median(np.divide(rates["stacked"], rates["textbook"])))
    out["ratio_one"] = float(np.median(np.divide(rates["stacked"], rates["one"])))
    return out


def rank_two(quick: bool) -> dict:
    """Leaky-ReLU chapter: CPU time of 16 starts to log(1/L) = 1000, n=12, d=50, m=20, nearly
    orthogonal data."""
    data, a = nearly_orthogonal(12, 50, 0.5, 0.99, 1.2, positive=5), second_layer(20)
    model = partial(two_layer, slope=0.5)

    def engine():
        W = draw({"W": (20, 50)}, 16, scale=1e-3)
        *_, last = follow(model, data, W, at=[32.0, 1000.0])
        return last

    engine()
    times, states = zip(*(cpu(engine) for _ in range(1 if quick else 5)), strict=True)
    _, _, g = negative_gradient(model, data, states[-1].params)
    c = torch.nn.functional.leaky_relu(data.y[:, None] * a, 0.5)  # of the limit's activations
    share = torch.linalg.solve((data.X @ data.X.T) * (c @ c.T), torch.ones(12).double())
    limit = ((share[:, None] * c * a.abs()).T @ data.X).reshape(1, -1)
    off = angle(g, limit.expand(16, -1)).max().item()
    return {"seconds": float(np.median(times)), "steps": states[-1].steps, "velocity_angle": off}


def cost(quick: bool) -> dict:
    """CPU seconds of the follower against n, d, m, seeds (100 steps each) and log(1/L); log-log
    slopes."""
    model = partial(two_layer, slope=SLOPE)
    base = {"n": 20, "d": 50, "m": 50, "seeds": 1}
    grids = {
        "n": [20, 40, 80, 160, 320],
        "d": [50, 100, 200, 400, 800],
        "m": [50, 100, 200, 400, 800],
        "seeds": [1, 4, 16, 64, 128],
        "log(1/L)": [100, 300, 1000, 3000],
    }
    out = {}
    for name, values in grids.items():
        values = values[:3] if quick else values
        seconds = []
        for value in values:
            size = dict(base, **({} if name == "log(1/L)" else {name: value}))
            data = gaussian_labels(size["n"], size["d"], 0)
            start_at = {"W": start(size["m"], size["d"], size["seeds"])}
            at, states = ([value], 1) if name == "log(1/L)" else (None, 101)

            def run(data=data, start_at=start_at, at=at, states=states):
                return list(islice(follow(model, data, start_at, at=at), states))

            seconds.append(min(cpu(run)[0] for _ in range(2 if name == "log(1/L)" else 3)))
        slope = float(np.polyfit(np.log(values[-3:]), np.log(seconds[-3:]), 1)[0])
        out[name] = {"values": values, "seconds": seconds, "slope": slope}
    return out


def plot_cost(result: dict, path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from qhlib import plots

    plots.use_style()
    figure, axes = plt.subplots()
    for style, (name, row) in zip(plots.SERIES, result.items(), strict=False):
        relative = np.divide(row["values"], row["values"][0])
        axes.loglog(
            relative,
            row["seconds"],
            label=f"{name} from {row['values'][0]}: slope {row['slope']:.2f}",
            **style,
        )
    axes.set(
        xlabel="size relative to the smallest",
        ylabel="CPU time (s)",
        title="Cost of following the flow",
    )
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def show(results: dict, console: Console) -> dict:
    """Tables, and the targets with what was reached."""
    lin, over = results["linear_gap"]["rows"], results["overhead"]
    number = lambda v, form: "not reached" if v is None else format(v, form)  # noqa: E731

    faith = results["fidelity"]
    for kind in ("kink-free", "random"):
        here = faith[kind]
        title = f"Direction error (rad), d=500, {kind} start, {here['patterns_changed']} of 1000 "
        title += f"signs changed; reference: {here['reference']}"
        if here["reference_doubt"]:
            title += f", itself within {max(here['reference_doubt']):.0e}"
        table = Table(title=title)
        for column in ("method", "L=1e-43", "L=1e-304", "L=1e-1000", "gradients", "CPU s"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for r in here["rows"]:
            errors = [number(e, ".1e") for e in r["errors"]]
            table.add_row(r["method"], *errors, str(r["gradients"]), f"{r['seconds']:.3f}")
        console.print(table)

    table = Table(title="Linear, n=200, d=20: CPU s / gradients to a relative margin gap")
    for column in ("seed", "method", "1e-3", "1e-6", "gap at the end"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for r in lin:
        cells = []
        for key in ("0.001", "1e-06"):
            cell = r.get(key, {})
            cells.append(f"{number(cell.get('seconds'), '.4f')} / {cell.get('gradients', '-')}")
        table.add_row(str(r["seed"]), r["method"], *cells, number(r["1e-06"].get("gap"), ".0e"))
    console.print(table)

    table = Table(title="Seed-steps per second, n=20, d=m=50")
    for column in (
        "textbook torch loop",
        "engine, 1 seed",
        "engine, 16 seeds",
        "x textbook",
        "x one seed",
    ):
        table.add_column(column, justify="right")
    table.add_row(f"{over['textbook']:.0f}", f"{over['one']:.0f}", f"{over['stacked']:.0f}",
                  f"{over['ratio_textbook']:.1f}", f"{over['ratio_one']:.1f}")  # fmt: skip
    console.print(table)

    table = Table(title="Cost of the follower: CPU s and log-log slope of the last three sizes")
    for column in ("against", "values", "seconds", "slope"):
        table.add_column(column)
    for name, r in results["cost"].items():
        seconds = ", ".join(f"{s:.3f}" for s in r["seconds"])
        table.add_row(name, ", ".join(map(str, r["values"])), seconds, f"{r['slope']:.2f}")
    console.print(table)

    def per_seed(key, method):
        return {r["seed"]: r[key].get("seconds") for r in lin if r["method"].startswith(method)}

    mine, dual = per_seed("1e-06", "engine"), per_seed("1e-06", "dual")
    faster = [(dual[s] or np.inf) / mine[s] for s in mine]
    targets = [
        ("direction error at L=1e-1000, d=500, kink-free (worst engine row)",
         max(r["errors"][-1] for r in faith["kink-free"]["rows"]
             if r["method"].startswith("engine")), "<=", 5e-5),
        ("dual acceleration / engine to gap 1e-6 (worst seed)", min(faster), ">=", 10),
        ("16 seeds / textbook loop, seed-steps per second", over["ratio_textbook"], ">=", 5),
        ("16 seeds / one seed, seed-steps per second", over["ratio_one"], ">=", 3.5),
        ("leaky-ReLU chapter, 16 seeds to log(1/L) = 1000: CPU s",
         results["rank_two"]["seconds"], "<=", 1),
        ("its velocity's angle to the closed form (rad)",
         results["rank_two"]["velocity_angle"], "<=", 1e-10),
    ]  # fmt: skip
    table = Table(title="Targets")
    for column in ("target", "measured", "asked", "met"):
        table.add_column(column)
    rows = []
    for name, value, sign, goal in targets:
        met = bool(value <= goal if sign == "<=" else value >= goal)
        rows.append(
            {"target": name, "measured": float(value), "relation": sign, "asked": goal, "met": met}
        )
        table.add_row(name, f"{value:.3g}", f"{sign} {goal:g}", "yes" if met else "NO")
    console.print(table)
    return {"rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("_build/bench.json"))
    parser.add_argument("--plot", type=pathlib.Path, help="write the cost plot here (PNG)")
    parser.add_argument(
        "--quick", action="store_true", help="fewer seeds and sizes: a look, not a measurement"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, results = Console(width=140), {}
    results["machine"] = {"platform": platform.platform(), "python": platform.python_version()}
    results["machine"] |= {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "quick": options.quick,
    }
    for task in (fidelity, linear_gap, overhead, rank_two, cost):
        console.print(f"[dim]{task.__doc__.splitlines()[0]}[/dim]")
        results[task.__name__] = task(options.quick)
    results["targets"] = show(results, console)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1))
    console.print(f"Written: {options.json}")
    if options.plot:
        plot_cost(results["cost"], options.plot)
        console.print(f"Written: {options.plot}")


if __name__ == "__main__":
    main()
