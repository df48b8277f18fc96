# make demo       install into .venv and run the undervoltage case on two ranks
# make claims     the papers' claims beside what the runs give
# make test       install what the tests need, lint, type-check, run all but the slow tests
# make test-all   the same with the slow tests
# make constraints  write down the versions of .venv, after a full green run: the environment that is known to work
# make test-lowest  a small part of the tests with the lowest version of every dependency, in an environment of its own
# make test-newest  the same with the newest of every dependency
# Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
CASE ?= chalmers_undervoltage
RANKS ?= 2
WORKERS ?= 2
BIN := .venv/bin

# One BLAS thread a rank: the ranks are the parallelism, and threads of their own made runs slower and uneven.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1
unexport PYTHONPATH PYTHONHOME

.PHONY: demo claims test test-all test-lowest test-newest lint constraints clean

demo: .venv/.installed-mpi
	$(BIN)/mpiexec -n $(RANKS) $(BIN)/tatonnement run $(CASE) --out results/$(CASE)

# The four runs behind the table of claims in README.md, and the table; then the microgrid's.
claims: .venv/.installed-mpi
	for case in undervoltage overvoltage; do for reading in held resolved; do \
	  $(BIN)/tatonnement run chalmers_$$case --out results/claims/$${case}_$$reading \
	    --set "dso.requirement='$$reading'" --quiet || exit 1; done; done
	$(BIN)/python -m problems.market.claims results/claims/*voltage_* --markdown
	$(BIN)/tatonnement run ercot_microgrid --out results/claims/microgrid --quiet
	$(BIN)/python -m problems.microgrid.claims results/claims/microgrid --markdown

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -n $(WORKERS)

# What leans on a dependency most: HiGHS, scipy, Pyomo, PIQP, pandas, pydantic, pandapower, MPI.
ENDS := tests/blocks/solve/test_highs_history.py tests/blocks/solve/test_highs_bounds.py \
  tests/blocks/test_asked_together.py tests/blocks/solve/test_quadratic_program.py \
  tests/run/test_known_answers.py tests/rules/test_master.py tests/case/test_config.py \
  tests/problems/lec/test_lec_settings.py tests/problems/network/test_feeders_sources.py \
  tests/problems/network/test_powerflow.py tests/problems/scenarios/test_scenarios.py \
  tests/problems/microgrid/test_microgrid_case.py tests/problems/market/test_figures.py tests/test_cli.py \
  tests/storage/test_result_folder.py tests/parallel/test_mpi.py tests/test_dependencies.py

test-lowest: .venv/bin/python
	rm -rf .venv-lowest
	$(BIN)/python -m venv .venv-lowest
	$(BIN)/python tests/support/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-lowest/lowest.txt -e '.[test]'
	.venv-lowest/bin/python -m pytest -n $(WORKERS) -m "not slow" $(ENDS)

test-newest: .venv/bin/python
	rm -rf .venv-newest
	$(BIN)/python -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -e '.[test]'
	.venv-newest/bin/python -m pytest -n $(WORKERS) -m "not slow" $(ENDS)

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

constraints: .venv/.installed-test
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf .venv .venv-lowest .venv-newest build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp for each extra: an installation is repeated when pyproject.toml or constraints.txt has
# changed, and only then.
.venv/.installed-%: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing tatonnement[$*] into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@
