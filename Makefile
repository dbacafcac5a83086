# sse-diffusion. `make` or `make help` lists the targets. Works from anywhere: make -C path/to/sse-diffusion demo
# Everything lives in .venv next to this file; no environment variable is read or needed.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format bench train-quick train-base hull clean
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
# Where the tables for `hull` lie; `train-*` reads the path in configs/data/mp.yaml.
DATA := ../shared/data
# Two test processes with one thread each: more threads per process only fight over the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

help: ## this list
	@awk 'BEGIN {FS = ":.*## "; print "make <target>:\n"} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## create .venv with the pinned packages (once; again when pyproject.toml or constraints.txt change)

$(STAMP): pyproject.toml constraints.txt
	@found=""; \
	for p in python3.11 python3.12 python3.13 python3; do \
	    if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$p"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "make setup: no Python >= 3.11 with the venv module was found (tried python3.11, 3.12, 3.13, python3)." >&2; \
	    echo "  -> install it with your system's package manager (e.g. packages python3.11 and python3.11-venv) and run make again." >&2; \
	    exit 1; \
	fi; \
	echo "make setup: $$("$$found" --version) -> $(VENV)"; \
	"$$found" -m venv $(VENV) || exit 1; \
	echo "make setup: installing the pinned packages (minutes the first time, mostly downloads)"
	@# torch first and pinned: a looser requirement lets pip choose another build of several gigabytes
	@$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## the main job: ask for lithium conductors, sample, screen, relax, place on the hull, MD -> outputs/demo
	$(VENV)/bin/sse design out=outputs/demo
	@echo "Open outputs/demo/report/index.html in a browser; outputs/demo/README.txt explains every file."

test: $(STAMP) ## the test suite (about 10 minutes on 2 cores)
	$(ONE_THREAD) $(PY) -m pytest -q -n 2 --dist loadscope -m "not slow"

test-slow: $(STAMP) ## the tests that take minutes each
	$(PY) -m pytest -q -m slow

lint: $(STAMP) ## formatting, lint and types, changing nothing
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(STAMP) ## rewrite the sources in the house format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# The round trip over the whole table (benchmarks/orbit_round_trip.py) is run by hand: it measures the data, not the machine.
bench: $(STAMP) ## speed on one core, minutes: training, sampling, metrics -> benchmarks/results/*.json (all keys in speed.json)
	@rm -f benchmarks/results/speed.json
	@for b in training sampling evaluation_speed; do \
	    echo "== benchmarks/$$b.py"; $(ONE_THREAD) $(PY) benchmarks/$$b.py || exit 1; \
	done

train-quick: $(STAMP) ## what 40 minutes of one core buy (needs the structures table, see README)
	$(VENV)/bin/sse train experiment=budget_40min out=runs/budget_40min

train-base: $(STAMP) ## the long training run (days of CPU, under an hour of one GPU)
	$(VENV)/bin/sse train experiment=mp_base out=runs/mp_base

hull: $(STAMP) ## recompute the hull table with the force field (hours, resumable): make hull DATA=folder/of/tables
	$(PY) scripts/build_hull.py structures_path=$(DATA)/structures/mp_structures.parquet \
	    energies_path=$(DATA)/energies/mp_formation_energies.csv.xz heldout_path=$(DATA)/hull/chgnet_reference_heldout.csv \
	    compositions_path=$(DATA)/energies/mp2019_composition_hull_85k.csv.xz

clean: ## remove caches and build products; .venv, outputs/ and runs/ stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find sse_diffusion scripts tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
