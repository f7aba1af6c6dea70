"""Wording of problems, beside the golden texts of the recipe's tests."""

import pytest

from cphloc.errors import RecipeError


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("{'1': object}", "the key '1' is text; write 1 without quotes, or, as in JSON, a list without numbers"),
        ("{x: object}", "the key 'x' is not a whole number; number the items, {1: ..., 2: ...}, or write a list"),
    ],
)
def test_a_key_that_is_no_number_is_named(tmp_path, classes, said):
    from cphloc.recipe.recipe import load

    (tmp_path / "r.yaml").write_text(
        "task: segmentation\ndims: 3\ndata: {type: phantom, patch: [8, 8, 8]}\nmodel:\n"
        "  backbone: {type: conv_encoder, widths: [4, 8]}\n"
        f"  heads: {{mask: {{type: unet, classes: {classes}}}}}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load(tmp_path / "r.yaml")
    assert str(caught.value).endswith(said)
