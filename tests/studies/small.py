"""The beginning of a study of phantoms that takes seconds to train, for tests to go on from."""

BASE = """\
claim: c
expected: e
base:
  task: segmentation
  dims: {dims}
  data:
    type: phantom
    size: {size}
    patch: {size}
    objects: [1, 1]
    diameter_mm: [4, 5]
    distractors: [0, 0]
    cases: {{train: 2, val: 1, test: 1}}
"""
