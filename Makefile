# Two commands are enough: `make phase5` and `make test`. Each sets up .venv when it has to.
PYTHON ?= $(firstword $(foreach minor,11 12 13,$(shell command -v python3.$(minor))) python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# setuptools would warn of what an editable installation is.
EDITABLE := PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --editable
PINNED := $(PIP) --no-deps --require-hashes --requirement
READY := $(VENV)/.installed
# MAKEFLAGS of a `make --jobs` above would be warned of.
TWO_AT_A_TIME := MAKEFLAGS= $(MAKE) --no-print-directory --jobs 2 VENV=$(VENV)

# A cluster is a dozen Python processes: where the environment keeps modules from being written compiled, as that of many
# containers does, each of them would compile the same ones, which is most of a start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup phase5 debug test test-cluster test-mlflow test-faults lint format bench bench-scale constraints audit clean \
	torch others kernels project

help:  ## Show the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# pip first: that of Python 3.11 looks twice as long at what an index offers. Then two at a time.
# The stamp is newer than what it was made from, so a second call installs nothing.
# torch: the CPU build where pip is told of its wheel (find-links), else the registry's, whose CUDA is gigabytes on Linux.
$(READY): pyproject.toml $(wildcard constraints*.txt)
	@command -v $(PYTHON) >/dev/null || { echo "Makefile: expected $(PYTHON) on the PATH, found none; install Python 3.11 or newer, or call make PYTHON=/path/to/python3"; exit 2; }
	@case "$(CURDIR)" in *" "*) echo "Makefile: expected a folder without spaces in its path, got $(CURDIR); Ray cannot start its workers from there: move the clone"; exit 2;; esac
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned dependencies into $(VENV) (once)"
	@$(PINNED) constraints-pip.txt
	@$(TWO_AT_A_TIME) torch others
	@if $(BIN)/python -m pip check | grep '^torch ' >/dev/null; then $(PINNED) constraints-cuda.txt; fi
	@echo "compiling the CPU kernels for this machine (once)"
	@$(TWO_AT_A_TIME) kernels project
	@touch $@

# Not for people, and without what they need: targets that `setup` makes two at a time. Ctrl-C ends both.
torch:
	@$(PINNED) constraints-torch.txt --no-index 2>/dev/null || $(PINNED) constraints-torch.txt

others:
	@$(PINNED) constraints.txt

kernels:
	@$(BIN)/python -m models.warm

project:
	@$(EDITABLE) . --no-deps
	@$(BIN)/python -m tests.pins --check
	@$(BIN)/python -m compileall -q "$$($(BIN)/python -c 'import ray; print(*ray.__path__)')"

setup: $(READY)  ## Create .venv with the pinned dependencies

phase5: $(READY)  ## Train, prune, evaluate, compare: experiments/phase5.yaml
	@$(BIN)/python -m orchestrator.launch experiments/phase5.yaml

debug: $(READY)  ## The whole pipeline in a few minutes: experiments/debug.yaml
	@$(BIN)/python -m orchestrator.launch experiments/debug.yaml

# Two processes take two cores: threads beside them would only wait for each other.
test: $(READY)  ## Run every test, the Ray end-to-end ones included
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-cluster: $(READY)  ## Two Ray nodes, no shared folder, node loss, an old checkout, a mirror (Linux, root; minutes)
	@$(EDITABLE) .[cluster]
	@$(BIN)/python -m pytest -m "cluster or not ray" tests/orchestrator/test_two_nodes.py \
		tests/orchestrator/test_mirror_elsewhere.py tests/orchestrator/training/test_gpu_shares.py \
		tests/orchestrator/run/test_mirror.py

test-mlflow: $(READY)  ## A real MLflow server on sqlite is told of a run (installs it beside; minutes)
	@test -x $(VENV)/mlflow/bin/mlflow || { $(PYTHON) -m venv $(VENV)/mlflow && $(VENV)/mlflow/bin/pip install --quiet --disable-pip-version-check --no-compile mlflow; }
	@$(EDITABLE) .[mlflow]
	@MLFLOW=$(VENV)/mlflow/bin/mlflow $(BIN)/python -m pytest tests/orchestrator/tracking

test-faults: $(READY)  ## Hit runs at random moments: each ends in the same table (a quarter of an hour)
	@$(BIN)/python -m pytest -m ray tests/orchestrator/test_faults.py

lint: $(READY)  ## Check format, lint rules and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)  ## Rewrite the sources in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)  ## Measure the ratios of tests/benchmarks into bench.json
	@$(BIN)/python -m tests.benchmarks.run

bench-scale: $(READY)  ## The same and those at 584,545 x 768 (half an hour, 10 GiB)
	@$(BIN)/python -m tests.benchmarks.run --scale

constraints: $(READY)  ## Pin what pyproject.toml asks for, with hashes; the present versions stay
	@$(PIP) uv
	@$(BIN)/python -m tests.pins

audit: $(READY)  ## Ask PyPI for known vulnerabilities of every pin
	@$(PIP) pip-audit
	@$(BIN)/pip-audit --disable-pip --require-hashes $(addprefix --requirement ,$(wildcard constraints*.txt))

clean:  ## Remove the environment, caches and built corpora, never a run
	@rm -rf $(VENV) artifacts .hypothesis .pytest_cache .ruff_cache .mypy_cache *.egg-info build
