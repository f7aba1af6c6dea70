"""Names of regions are matched by wildcards in no time, whatever a recipe asks for."""

import time

from cphloc.data.io.read_regions import matching


def test_a_pattern_of_many_wildcards_does_not_backtrack():
    started = time.process_time()
    assert matching("*a" * 40 + "*b", ["a" * 400]) == []
    assert time.process_time() - started < 1


def test_a_bracket_stands_for_itself():
    assert matching("GTV [12]*", ["GTV 1", "GTV [12] left"]) == ["GTV [12] left"]
    assert matching("gtv*", ["GTV"]) == []
