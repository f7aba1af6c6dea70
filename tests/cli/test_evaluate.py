"""What ``cphloc evaluate`` prints of the attention as an explanation."""

from __future__ import annotations

import pytest

from cphloc.cli.evaluate import _explanation
from cphloc.cli.main import main


def test_maps_of_one_network_are_printed_beside_each_other():
    of = {"value": 0.25, "low": 0.125, "high": 0.5, "n": 8}
    methods = {method: {"pointing": of, "deletion": of | {"value": None}} for method in ("attention", "occlusion")}
    text = "\n".join(_explanation({"cases": 8, "methods": methods, "similarity_to_random": of}))
    assert "8 cases with an object" in text
    assert [line.split()[:2] for line in text.splitlines()[2:4]] == [["attention", "0.250"], ["occlusion", "0.250"]]
    assert text.endswith("rank correlation with the map of random weights: 0.250 [0.125 to 0.500]")
    assert list(_explanation(None)) == []


def test_the_help_names_the_option(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["evaluate", "--help"])
    assert "--explanations" in capsys.readouterr().out
