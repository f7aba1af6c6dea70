"""Types of the public names, which ``__init__.py`` imports when they are first used."""

from cphloc.errors import CphlocError as CphlocError
from cphloc.evaluation.evaluate import evaluate as evaluate
from cphloc.inference.localization import Localization as Localization
from cphloc.modeling.build import build as build
from cphloc.publishing.publish import publish as publish
from cphloc.structures.annotation import Annotation as Annotation
from cphloc.structures.geometry import Geometry as Geometry
from cphloc.studies.sweep import sweep as sweep
from cphloc.training.cross_validation import cross_validate as cross_validate
from cphloc.training.train import train as train
from cphloc.zoo.entries import list_entries as list_entries
from cphloc.zoo.load import load as load

__version__: str
