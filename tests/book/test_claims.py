"""Each kind of claim is fed a right and a wrong measurement; the judge is compared with a plain loop."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qhlib.book.claims import RELATIONS, Claim, judge
from qhlib.book.records import row_fails
from qhlib.book.tables import card_html, claims_html, claims_text, math_html

GOOD = {"statement": "s", "source": "t", "basis": "stated", "tolerance": 0.1, "tolerance_from": "u"}
NUMBERS = st.floats(-1e6, 1e6)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8)
RELATION = st.sampled_from(sorted(RELATIONS))


def claim(predicted=1.0, measured=1.0, **changes):
    parts = {"id": "a/b", **GOOD, **changes}
    positional = [parts.pop(name) for name in ("id", "statement", "source", "basis")]
    return Claim(*positional, predicted=predicted, measured=measured, **parts)


KINDS = {  # relation, relative, predicted, right measurement, wrong measurement; the tolerance is 0.1
    "equal": ("=", False, 1.0, 1.05, 1.2),
    "equal from below": ("=", False, 1.0, 0.95, 0.8),
    "at most": ("<=", False, 1.0, -50.0, 1.2),
    "at least": (">=", False, 1.0, 50.0, 0.8),
    "equal, relative": ("=", True, 100.0, 109.0, 111.0),
    "equal, relative to a negative number": ("=", True, -100.0, -109.0, -111.0),
    "at most, relative": ("<=", True, 100.0, 109.0, 111.0),
    "at least, relative": (">=", True, 100.0, 91.0, 89.0),
    "arrays": ("=", False, [1.0, 2.0], [1.0, 2.05], [1.0, 2.2]),
    "matrices": ("<=", False, np.ones((2, 2)), np.zeros((2, 2)), np.array([[0, 0], [2, 0]])),
    "truth": ("=", False, True, True, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_hold_and_can_fail(kind):
    relation, relative, predicted, right, wrong = KINDS[kind]
    good = claim(predicted, right, relation=relation, relative=relative)
    bad = claim(predicted, wrong, relation=relation, relative=relative)
    assert (good.verdict, good.fails) == ("reproduced", False)
    assert (bad.verdict, bad.fails, row_fails(bad.row())) == ("deviates", True, True)


@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf, [1.0, math.nan], [math.inf, 1.0]])
@pytest.mark.parametrize("relation", RELATIONS)
def test_what_is_not_finite_deviates(measured, relation):
    made = claim(np.ones(np.shape(measured)), measured, relation=relation)
    assert made.verdict == "deviates"
    assert made.row()["measured"] in ("nan", "inf", "-inf")


def test_an_expected_deviation_deviates_without_failing():
    made = claim(1.0, 2.0, expected_deviation="the constant is not sharp")
    assert (made.verdict, made.fails, row_fails(made.row())) == ("deviates", False, False)
    assert "the constant is not sharp" in card_html(made.row())


def test_outside_asserts_nothing_and_needs_no_prediction():
    for predicted, measured in [(1.0, 1.0), (1.0, 5.0), (math.nan, 1.0), (0.0, math.nan)]:
        made = claim(predicted, measured, outside="unbalanced classes", relative=True)
        assert (made.verdict, made.fails) == ("outside", False)
        json.dumps(made.row(), allow_nan=False)


BAD = {
    "prediction NaN": ({"predicted": math.nan}, "predicted is not finite"),
    "prediction infinite": ({"predicted": math.inf}, "predicted is not finite"),
    "tolerance negative": ({"tolerance": -1e-9}, "tolerance -1e-09 is not"),
    "tolerance NaN": ({"tolerance": math.nan}, "tolerance nan is not"),
    "tolerance infinite": ({"tolerance": math.inf}, "tolerance inf is not"),
    "tolerance array": ({"tolerance": [0.1]}, "tolerance"),
    "empty": ({"predicted": [], "measured": []}, "nothing to compare"),
    "shapes": ({"predicted": 0.0, "measured": [0.0, 0.0]}, "shape"),
    "text": ({"measured": "1.0"}, "measured is not a real number"),
    "complex": ({"measured": 1j}, "measured is not a real number"),
    "None": ({"measured": None}, "measured is not a real number"),
    "ragged": ({"measured": [[1], [1, 2]]}, "measured is not a real number"),
    "too long": ({"measured": 10**400}, "measured is not a real number"),
    "relative to zero": ({"predicted": 0.0, "relative": True}, "predicted is zero"),
    "relation": ({"relation": "<"}, "relation '<' is not one of"),
    "basis": ({"basis": "guess"}, "basis 'guess' is not one of"),
    "statement": ({"statement": " "}, "statement is empty"),
    "source": ({"source": ""}, "source is empty"),
    "tolerance_from": ({"tolerance_from": ""}, "tolerance_from is empty"),
    "outside": ({"outside": True}, "outside is not a text"),
    "id": ({"id": "Ball Robustness"}, "claim id 'Ball Robustness'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_malformed_claims_say_what_is_wrong(kind):
    changes, message = BAD[kind]
    with pytest.raises(ValueError) as caught:
        claim(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@given(PAIRS, st.floats(0, 1e6), RELATION)
def test_judge_agrees_with_a_plain_loop(pairs, tolerance, relation):
    gap = {"=": lambda p, m: abs(m - p), "<=": lambda p, m: m - p, ">=": lambda p, m: p - m}[relation]
    gaps = [gap(p, m) for p, m in pairs]
    found = judge(*zip(*pairs, strict=True), tolerance, relation)
    assert found.holds == all(value <= tolerance for value in gaps)
    assert found.gap == max(gaps) == gaps[found.index]
    assert (found.predicted, found.measured, found.entries) == (*pairs[found.index], len(pairs))


@given(PAIRS, st.floats(0, 1e6), st.permutations(range(8)), RELATION)
def test_the_order_of_entries_does_not_matter(pairs, tolerance, order, relation):
    mixed = [pairs[i] for i in order if i < len(pairs)]
    first = judge(*zip(*pairs, strict=True), tolerance, relation)
    assert judge(*zip(*mixed, strict=True), tolerance, relation).gap == first.gap


@given(PAIRS, st.floats(0, 1e6))
def test_at_most_and_at_least_mirror_each_other(pairs, tolerance):
    p, m = (np.array(side) for side in zip(*pairs, strict=True))
    assert judge(p, m, tolerance, "<=").gap == judge(-p, -m, tolerance, ">=").gap


@given(PAIRS, st.floats(0, 10), st.integers(-20, 20), RELATION)
def test_a_relative_tolerance_does_not_know_the_unit(pairs, tolerance, power, relation):
    assume(all(abs(p) > 1e-6 for p, _ in pairs))
    p, m = (np.array(side) for side in zip(*pairs, strict=True))
    unit = 2.0**power  # exact in binary
    found = judge(p, m, tolerance, relation, relative=True)
    scaled = judge(unit * p, unit * m, tolerance, relation, relative=True)
    assert math.isclose(found.gap, scaled.gap, rel_tol=1e-9, abs_tol=1e-12)


@given(PAIRS, st.floats(1e-9, 1e3), st.data())
def test_one_wrong_entry_is_enough(pairs, tolerance, data):
    p = np.array([pair[0] for pair in pairs])
    for relation, sign in (("=", 1), ("=", -1), ("<=", 1), (">=", -1)):
        m = p.copy()
        assert judge(p, m, 0.0, relation).holds
        m[data.draw(st.integers(0, len(m) - 1))] += sign * (2 * tolerance + 1e-6)
        assert not judge(p, m, tolerance, relation).holds


def test_torch_tensors_are_accepted_with_their_gradient():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert claim(tensor, 2 * tensor - 1).verdict == "reproduced"
    assert claim(torch.tensor(1.0), torch.tensor(3.0)).verdict == "deviates"


def test_rows_are_json_and_hold_the_worst_entry():
    row = claim([1.0, 5.0], [1.0, math.nan]).row()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["predicted"], row["measured"], row["gap"], row["entries"]) == (5.0, "nan", "inf", 2)


def test_the_table_is_accessible_and_escaped():
    rows = [
        claim(statement="<b> $a<b$", source="A & B").row(),
        claim(measured=3.0, id="a/c").row(),
        claim(outside="d < n", id="a/d").row(),
    ]
    html = claims_html("tiny_chapter", rows)
    assert "<caption" in html and 'scope="col"' in html and 'scope="row"' in html and 'tabindex="0"' in html
    assert "&lt;b&gt;" in html and "A &amp; B" in html and "<b>" not in html
    for row, symbol in zip(rows, "✓✗○", strict=True):
        assert f'<span aria-hidden="true">{symbol}</span> <strong>{row["verdict"]}</strong>' in html
        assert f'href="#{row["anchor"]}"' in html and f'id="{row["anchor"]}"' in card_html(row)
        assert row["verdict"] in claims_text([row])


def test_mathematics_is_marked_for_mathjax():
    html = math_html(r"costs \$5, $x$ and $$y < 1$$")
    assert html.startswith("costs $5, <span class=")
    assert r"\(x\)</span>" in html and r"\[y &lt; 1\]</span>" in html
    assert html.count("mathjax_process") == 2
