# Two commands matter: `make run` shows it working, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PACKAGES := resilience tasks workers
# Most tests wait for a circuit or a server; several at a time take half as long. One at a time: PYTEST_PARALLEL=
PYTEST_PARALLEL ?= -n 3 --dist worksteal
# What the tests start or load beside Python packages, as Debian names it.
SERVERS := redis-server rabbitmq-server libfaketime prometheus prometheus-alertmanager chromium chromium-driver openssl

.PHONY: help run test compose-test lint format bench servers clean
.PHONY: chaos faults fuzz guards matrix model mutations upgrade-test wheel-test dist audit vulnerabilities

help:
	@echo "make run    start everything on this machine and watch it"
	@echo "make test   run every test; installs $(SERVERS) if missing"
	@echo "make compose-test   outages in containers, in four minutes; needs Docker, or ENGINE=a script that starts it"
	@echo "make faults kill workers, servers and beat, 20 rounds of each, and count every task"
	@echo "make matrix every provider with every fault and refusal; then a world of odd rows: ODD_SECONDS=600 make matrix"
	@echo "make chaos  random faults on a whole fleet under load, ten minutes on each broker, every task and call counted"
	@echo "make fuzz   replies, files, addresses, messages, the lot, the store, the command line: ten minutes of each"
	@echo "make mutations  10 000 mutated replies of each provider, in half an hour"
	@echo "make model  play everything that can happen in small worlds on the real scripts, in eight minutes"
	@echo "make lint   ruff and mypy"
	@echo "make upgrade-test REF=v0.1.0   workers of that version and of this one on one store"
	@echo "make audit  every dependency's version and licence; make vulnerabilities asks for known ones, on the network"
	@echo "make dist   build the wheel and the sdist in dist/"
	@echo "make wheel-test   run the tests with that wheel installed, and no source in reach; PYTHON=python3.13 is another's"
	@echo "make bench  measure all that is promised, beside Celery's own retry and other breakers, into docs/report.md"

run: .venv/.run
	@exec $(BIN)/python -m workers.run

test: .venv/.test servers
	@$(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS)

upgrade-test: .venv/.test
	@[ -n "$(REF)" ] || { echo "Which version? make upgrade-test REF=v0.1.0, or any commit" >&2; exit 1; }
	@git archive --format=zip --output .venv/other-version.zip "$(REF)" resilience
	@UPGRADE_FROM=.venv/other-version.zip $(BIN)/python -m pytest tests/upgrade $(PYTEST_ARGS)

dist: .venv/.test
	@rm -rf dist
	@$(BIN)/python -m hatchling build

wheel-test: dist servers
	@PYTHON="$(PYTHON)" .ci/wheel-test $(PYTEST_PARALLEL) $(PYTEST_ARGS)

audit: .venv/.test
	@$(BIN)/python -m tests.dependencies

# In an environment of its own: what it needs is no dependency of ours.
vulnerabilities: .venv/.made
	@.ci/vulnerabilities "$(PYTHON)"

compose-test: .venv/.test
	@ENGINE="$(ENGINE)" .ci/compose-test $(PYTEST_ARGS)

faults: .venv/.test servers
	@$(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

matrix: .venv/.test
	@$(BIN)/python -m pytest -q -s --timeout 0 tests/integration/test_matrix.py tests/integration/test_odd_world.py $(PYTEST_ARGS)

chaos: .venv/.test servers
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

# Shorter, and only some: make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS="cli store"
fuzz: .venv/.test
	@FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ_TARGETS="$(FUZZ_TARGETS)" $(BIN)/python -m tests.fuzz

mutations: .venv/.test
	@FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest --timeout 0 $(PYTEST_PARALLEL) tests/contract/test_mutations.py $(PYTEST_ARGS)

lint: .venv/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/.test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.bench
	@$(BIN)/python -m bench $(BENCH_ARGS)

# No stamp: to look costs nothing, and a package can go again.
servers:
	@.ci/servers $(SERVERS)

.venv/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  "%s is Python %d.%d; 3.11 or newer is needed. Name one: make run PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Making a virtual environment in .venv ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.made pyproject.toml workers/pyproject.toml constraints.txt
	@echo "Installing pinned dependencies ..."
	@$(PIP) -e . -e './workers[embedded]'
	@touch $@

.venv/.test: .venv/.made pyproject.toml workers/pyproject.toml constraints.txt
	@echo "Installing pinned dependencies and test tools ..."
	@$(PIP) -e . -e './workers[calendars,embedded,test]'
	@touch $@ .venv/.run

.venv/.bench: .venv/.made pyproject.toml workers/pyproject.toml constraints.txt
	@echo "Installing pinned dependencies, test tools, the breakers measured beside ours, and what draws figures ..."
	@$(PIP) -e . -e './workers[bench,calendars,embedded,peers,test]'
	@touch $@ .venv/.test .venv/.run

guards: .venv/.test servers
	@$(BIN)/python -m tests.guards

model: .venv/.test
	@$(BIN)/python -m tests.model $(MODEL_ARGS)

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
