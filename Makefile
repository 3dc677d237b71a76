# make demo           1,000 labels: a linear student on them, and one that learns from a teacher of the same labels (three minutes on two CPU cores)
# make transfer-demo  a pretrained network on two small data sets: one is like its own, one is not (two minutes)
# make test           the tests, and the examples of the docstrings
# make torture        kills, damaged files, random flags, full disks: BACKEND=jax MINUTES=10 SEED=0 (ten minutes)
# make check          linters and types
# make bench          kapp compared with its peers: reports/performance (half an hour on two idle cores)
#                     BENCHFLAGS=time_to_accuracy_linear_3: minutes to an accuracy (an hour; _teacher: two)

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo transfer-demo test torture check bench clean

demo: .venv/installed
	$(BIN)/python -m kapp.recipes.distill --teacher airbench --teacher-epochs 40 --student linear_3 --dataset shapes \
	  --labeled 1000 --distillation-loss kl --temperature 2 --scale small

transfer-demo: .venv/installed
	$(BIN)/python -m kapp.recipes.transfer --model airbench --source shapes --target shapes:near shapes:far --scale small --batch-size 64

test: .venv/installed
	$(BIN)/python -m pytest $(TESTFLAGS)

BACKEND ?= tensorflow
MINUTES ?= 10
SEED ?= 0
torture: .venv/installed
	KERAS_BACKEND=$(BACKEND) $(BIN)/python -m tests.torture --minutes $(MINUTES) --seed $(SEED) $(TORTUREFLAGS)

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The peers need the other backends.
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,jax,torch]'
	$(BIN)/python -m benchmarks $(BENCHFLAGS)

# The pinned dependencies; `make EXTRAS=dev,jax,torch ...` adds the other backends.
EXTRAS ?= dev
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "kapp needs Python 3.11 to 3.13, and $(PYTHON) is another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf .venv build dist .coverage* *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
