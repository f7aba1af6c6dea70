"""The whole road through a real MLflow store; slow, because importing MLflow is."""

from __future__ import annotations

from cphloc.zoo.load import load
from cphloc.zoo.register import register_zoo


def test_a_registered_entry_loads_from_the_model_registry(published):
    assert register_zoo(published.parent.parent) == ["tiny@1.0.0"]
    for spec in ("models:/tiny/1", "models:/tiny/latest"):
        model = load(spec)
        assert str(model.entry) == "tiny@1.0.0"
