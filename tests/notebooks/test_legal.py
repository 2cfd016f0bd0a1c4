"""What a declaration admits must run: random legal parameters, drawn from the declaration
itself."""

import json
import math
import os
import re

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qhlib import images
from tests.notebooks.legible import watch
from tests.notebooks.play import NOTEBOOKS, notebook, tell

NAMES = sorted(
    path.stem
    for path in NOTEBOOKS.glob("*.ipynb")
    if any(spec.name == "effort" for spec in notebook(path.stem).declaration.specs)
)
EXAMPLES = int(os.environ.get("QHLIB_LEGAL", "1"))  # sets of each notebook


def here(spec, choice) -> bool:
    """Whether this machine has what a choice asks for: a graphics card, images."""
    if spec.name == "device":
        return choice == "cpu" or torch.cuda.is_available()
    if spec.name == "dataset":
        try:
            images.require(choice, download=False)
        except images.ImagesError:
            return False
    return True


def entry(spec):
    """Values of one entry of a parameter, its ends among them."""
    if spec.choices:
        return st.sampled_from([choice for choice in spec.choices if here(spec, choice)])
    if spec.entry == "bool":
        return st.booleans()
    if spec.entry == "str":
        return st.just(spec.default if spec.type == "str" else spec.default[0])
    low, high = spec.ends
    if spec.entry == "int":
        shift = spec.range[0] == "(", spec.range[-1] == ")"
        return st.integers(int(low) + shift[0], int(high) - shift[1])
    return st.floats(
        low if math.isfinite(low) else -1e6,
        high if math.isfinite(high) else 1e6,
        exclude_min=spec.range[0] == "(",
        exclude_max=spec.range[-1] == ")",
    )


def value(spec):
    """Values of a parameter that its declaration admits, as far as it stands alone."""
    if spec.type == spec.entry:
        return entry(spec)
    numbers = [re.findall(r"\d+", rule) for rule in spec.rules if rule.endswith("entries")]
    ends = [int(word) for word in numbers[0]] if numbers else [1, 4]
    ordered = {"increasing", "distinct"} & set(spec.rules)
    most = min(ends[-1], len(spec.choices)) if spec.choices and ordered else ends[-1]
    lists = st.lists(entry(spec), min_size=ends[0], max_size=most, unique=bool(ordered))
    return lists.map(sorted) if "increasing" in spec.rules else lists


def legal(name: str):
    """Legal parameters of a notebook at the effort of smoke."""
    declaration = notebook(name).declaration
    drawn = st.fixed_dictionaries(
        {s.name: value(s) for s in declaration.specs if s.name != "effort"}
    )

    def related(values: dict) -> bool:
        for low, sign, high in declaration.relations:
            top = max(v if isinstance(v := values[low], list) else [v])
            bottom = min(v if isinstance(v := values[high], list) else [v])
            if top > bottom or (sign == "<" and top == bottom):
                return False
        return True

    return drawn.filter(related)


@pytest.mark.parametrize("name", NAMES)
def test_legal_parameters_run_to_the_end(name, monkeypatch):
    unreadable = watch(monkeypatch)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # a smaller example would cost many more runs
        suppress_health_check=list(HealthCheck),
    )
    @given(legal(name))
    def runs(parameters):
        chapter, text = tell(name, effort="smoke", **parameters)
        wrong = [claim.row() for claim in chapter.claims.values() if claim.verdict == "deviates"]
        wrong = [row for row in wrong if not row["expected_deviation"]]
        assert not wrong, json.dumps([parameters, wrong], indent=1)
        assert not re.search(r"\bnan\b", text), parameters
        assert "ran to its end" in text

    runs()
    assert not unreadable, f"on a phone: {unreadable[:5]}"
