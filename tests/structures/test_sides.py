import pytest

from cphloc.structures.sides import names_sides


@pytest.mark.parametrize(
    "names",
    [
        ["kidney_left", "kidney_right"],
        ["Left-Hippocampus"],
        ["LeftKidney", "spleen"],
        ["Niere links", "Niere rechts"],
        ["rein gauche"],
        ["pulmo sinister"],
        ["ovaire droit"],
        ["riñón izquierdo"],
        ["левая почка"],
        ["左肾", "肝"],
        ["Parotid_L", "Parotid_R"],
        ["ParotidL", "ParotidR"],
        ["LUNGL", "LUNGR"],
        ["lkidney", "rkidney"],
        ["l", "r"],
        ["L", "R"],
        ["kidney.dx", "kidney.sx"],
        ["ren sin", "ren dex"],
        ["Niere_li", "Niere_re"],
        ["ctx-lh-insula", "ctx-rh-insula"],
        ["lung(R)", "lung(L)"],
        ["eye OD", "eye OS"],
    ],
)
def test_names_with_sides(names):
    assert names_sides(names)


@pytest.mark.parametrize(
    "names",
    [
        ["tumour"],
        ["RBC", "WBC", "Platelets"],
        ["anterior", "posterior"],
        ["lung", "rib"],
        ["vertebra L1", "vertebra L2"],
        ["L", "M"],
        ["bright", "leftover"],
        ["nodulo sin calcio", "nodulo con calcio"],
        ["lesion", "region"],
        ["type_s", "type_t"],
        [],
    ],
)
def test_names_without_sides(names):
    assert not names_sides(names)
