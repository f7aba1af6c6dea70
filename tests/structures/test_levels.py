import pytest

from cphloc.errors import InputError
from cphloc.structures.levels import Level, level_at

LEVELS = (Level(8, (1, 2)), Level(16, (2, 4)), Level(32, (4, 8)))


@pytest.mark.parametrize("index", range(-3, 3))
def test_levels_are_counted_from_the_finest_or_back_from_the_coarsest(index):
    assert level_at(LEVELS, index) is LEVELS[index]


@pytest.mark.parametrize("index", [3, -4])
def test_a_level_that_does_not_exist_is_refused(index):
    with pytest.raises(InputError, match=rf"level {index} does not exist; the pyramid has 3 levels, 0 .* to 2"):
        level_at(LEVELS, index)


def test_cells_are_rounded_up():
    assert LEVELS[2].size((8, 17)) == (2, 3)
