# Everything a newcomer types. Both `make demo` and `make test` work on a machine that has Python >= 3.11, git and make.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-all test-browser docs mutants real-files fuzz crowd faults bench quality zoo-numbers organs import-proof systems lecture lint release clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

## The main job on real data: check, train, evaluate, publish, load, predict. About four minutes on two cores.
demo: $(INSTALLED)
	rm -rf demo && mkdir demo
	cd demo && $(BIN)/cphloc check demo
	cd demo && $(BIN)/cphloc train demo
	cd demo && $(BIN)/cphloc evaluate latest
	cd demo && $(BIN)/cphloc publish latest --name demo --version 0.1.0 --to zoo
	cd demo && CPHLOC_ZOO=zoo $(BIN)/cphloc verify demo
	cd demo && CPHLOC_ZOO=zoo $(BIN)/cphloc predict demo \
		$(CURDIR)/cphloc/data/sample/hippocampus/images/hippocampus_149.nii.gz --out results
	cd demo && CPHLOC_ZOO=zoo $(BIN)/cphloc compare demo unet3d-hippocampus
	@echo
	@echo "Picture:   demo/results/hippocampus_149_overlay.png"
	@echo "MLflow:    cd demo && ../.venv/bin/cphloc ui"

test: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

## Also the tests that take minutes.
test-all: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadfile

## What people see, in Chromium: the MLflow UI with every shipped entry, and volumes in 3-D. A minute; .ci/run runs it.
test-browser: $(INSTALLED)
	$(BIN)/pytest -m slow tests/tracking/test_ui.py tests/inference/test_viewer.py

## Would the tests notice a mistake? About 40 minutes on one core. It can be stopped and goes on. Writes tests/MUTANTS.md.
mutants: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[mutants]'
	$(BIN)/python -W ignore -m tests.mutants

## Files of other projects and tools, each compared with a reference reader; a minute. Writes tests/real_files/RESULTS.md.
real-files: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[real-files]'
	$(BIN)/uv pip install --quiet --no-deps --target .venv/rt-utils rt-utils==1.2.7
	PYTHONPATH=tests $(BIN)/python -W ignore -m tests.real_files

## Can a file of a stranger crash, block or fill the memory? MINUTES (60) over every reader, recipe, card, entry, index and
## report. It can be stopped and goes on. Writes tests/fuzz/RESULTS.md; inputs that fail are kept in tests/fuzz/seeds.
fuzz: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -W ignore -m tests.fuzz --minutes $(or $(MINUTES),60)

## 20 processes at once on one zoo, one cache and one MLflow: sqlite, then a server with PostgreSQL; about ten minutes.
## Writes tests/benchmarks/RESULTS.md.
crowd: $(INSTALLED)
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || apt-get install --yes postgresql || sudo apt-get install --yes postgresql
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[crowd]'
	$(BIN)/python -W ignore -m tests.crowd

## Does any work get lost when a disk is full or a process is killed? Every write of every command; about half an hour on
## one core. It can be stopped and goes on. Writes tests/faults/TABLE.md.
faults: $(INSTALLED)
	$(BIN)/python -W ignore -m tests.faults

## cphloc beside its peers, which are installed too, on a machine that does nothing else: no topic begins after fourteen minutes.
## It can be stopped and goes on. Writes tests/benchmarks/RESULTS.md.
bench: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks

## Small models trained with nnU-Net, imported, and compared with nnUNetv2_predict; about half an hour on one core, in an
## environment that uv makes in the cache. It can be stopped and goes on. Writes tests/benchmarks/IMPORT.md.
import-proof: $(INSTALLED)
	$(BIN)/python -W ignore -m tests.import_proof

## The quality of planned recipes beside nnU-Net, segmentation-models-pytorch and torchvision; a night. It can be stopped and goes
## on; `python -m tests.quality --help` selects parts. Writes tests/benchmarks/QUALITY.md.
quality: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[quality]'
	$(BIN)/python -W ignore -m tests.quality

## Organs found at low resolution and outlined at full resolution against one network, with OpenKBP in CPHLOC_DATA; ten minutes on
## one core. It can be stopped and goes on. Writes tests/benchmarks/PIPELINE.md.
organs: $(INSTALLED)
	$(BIN)/python -W ignore -m tests.quality.organs

## Every entry of the zoo measured again, card against measured, from the data sets in CPHLOC_DATA; about fifteen minutes on one
## core. It can be stopped and goes on. Writes tests/benchmarks/ZOO.md.
zoo-numbers: $(INSTALLED)
	$(BIN)/python -W ignore -m tests.zoo_numbers

## Does every system of recipes/systems learn? Three seeds and shuffled annotations; about six hours on one core. It can be
## stopped and goes on; `python -m tests.systems --help` selects parts. Writes docs/generate/systems.json.
systems: $(INSTALLED)
	$(BIN)/python -W ignore -m tests.systems

## Every study of the lecture, the cheap ones once more with other seeds, then its page; about three hours on two cores, and some
## hours more for e28 to e31. Studies on patients need data sets in CPHLOC_DATA: sts_petct and hippocampus (e24), busi (e25, e28),
## brain_t1c (e29), openkbp (e30, e31). A study that does not run is listed at the end, after all others, and make fails then.
## It can be stopped and goes on.
REPEATED = e00-shifted-object e11-suppression e12-box-volume e16-checkerboard e18-screening-interventions e20-grad-cam e21-kernels \
	e23-graph-convolution e26-loss-floor
lecture: $(INSTALLED)
	@trap 'exit 130' INT; failed=; \
	for study in recipes/lecture/*.yaml; do \
		name=$$(basename $$study .yaml); \
		$(BIN)/cphloc study $$study --out studies/$$name || failed="$$failed $$name"; \
	done; \
	for name in $(REPEATED); do \
		$(BIN)/cphloc study $$name --set 'seeds=[5,6,7,8,9]' --out studies/$$name.repeat || failed="$$failed $$name.repeat"; \
	done; \
	$(BIN)/cphloc study --page recipes/lecture || failed="$$failed page"; \
	if [ -n "$$failed" ]; then echo "did not run:$$failed" >&2; exit 1; fi

## The documentation as a site in build/site, warnings as errors; a minute. Nothing is loaded from the network to read it.
docs: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=docs/generate $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

## Style, formatting and types.
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/deptry .

## Wheel and sdist, checked; the wheel is installed in a clean environment and does the main job there. About ten minutes.
## The version is __version__ in cphloc/__init__.py; CHANGELOG.md has a section for it.
release: $(INSTALLED)
	rm -rf dist build && mkdir build
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/uv venv --quiet --python $(BIN)/python build/release
	$(BIN)/uv pip install --quiet --python build/release/bin/python --constraint constraints.txt "$$(ls $(CURDIR)/dist/*.whl)[train,mlflow]"
	$(MAKE) demo BIN=$(CURDIR)/build/release/bin
	@echo "dist/ is ready: $(BIN)/twine upload dist/*"

clean:
	rm -rf demo runs dist build .pytest_cache .ruff_cache .hypothesis
