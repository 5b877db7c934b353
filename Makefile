# What an admin or a developer runs. CONTRIBUTING.md explains each target.
PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
export PYTHONPATH := $(CURDIR)

.PHONY: deps build debug run test test-again test-filter test-slow lint man rpm test-rpm container test-container bench bench-reload bench-start bench-quick bench-reports soak faults sim accuracy clean

# System packages (needs root); prints what is missing where it cannot install.
deps:
	packaging/deps.sh

$(VENV)/.stamp: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check $$($(PYTHON) packaging/list_requirements.py pyproject.toml)
	touch $@

build: $(VENV)/.stamp
	$(PY) packaging/preflight.py
	$(PY) setup.py -q build_ext --inplace

debug: $(VENV)/.stamp
	NTPD_FAST_DEBUG=1 $(PY) setup.py -q build_ext --inplace --force

# A server to look at on port 11123, as whoever runs this; leaves the clock alone. Files are in .run/.
run: build
	@$(PY) -m ntpd_fast.cli.demo

lint: build
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# What the tests need that cannot be installed beside other packages. When it cannot be had, the tests say so.
PEERS = build/peers/ntpsec/usr/sbin/ntpd
$(PEERS):
	-packaging/peers.sh

# The package takes two minutes to build; those tests run meanwhile that seldom wait for anybody. The system tests fork
# daemons from their own process: one that no other test has left descriptors in.
test: build $(PEERS)
	packaging/rpm/build.sh >build/rpm.log 2>&1 & package=$$!; \
	status=0; \
	$(PY) -m pytest -m "not slow" tests/unit tests/sim tests/fuzz || status=1; \
	wait $$package || echo "the package was not built, see build/rpm.log"; \
	$(PY) -m pytest -m "not slow" tests/system || status=1; \
	$(PY) -m pytest -m "not slow" tests/interop || status=1; \
	exit $$status

# Those that failed in the last run, once more.
test-again: build
	$(PY) -m pytest -m "not slow" --last-failed --last-failed-no-failures none tests

# Every daemon of the tests closed in: TEST_FILTER_LEVEL=1 make test-filter for the stricter lists. About five minutes.
test-filter: build
	TEST_FILTER_LEVEL=$${TEST_FILTER_LEVEL:-2} $(PY) -m pytest -m "not slow" tests/system tests/interop

# What takes longer: millions of nonces, thousands of connections.
test-slow: build
	$(PY) -m pytest -m slow tests/unit tests/sim tests/interop tests/system tests/fuzz

# The manual pages, into build/man: man -l build/man/ntpd-fast.conf.5
man: build
	$(PY) packaging/build_manuals.py build/man

# The packages, into build/rpm/RPMS.
rpm:
	packaging/rpm/build.sh

# The same, installed and run in a machine of their own with systemd; and built without libraries of their own, with the
# oldest ones that will do. Needs root. The first is part of "make test".
test-rpm: build
	$(PY) -m pytest tests/system/test_rpm.py tests/system/test_rpm_unbundled.py

# The image, into podman's store as ntpd-fast.
container:
	packaging/container/build.sh

# The same on a base made of Debian's packages, run without a capability and asked. Needs root; five minutes.
test-container: build
	command -v podman >/dev/null && command -v debootstrap >/dev/null || packaging/deps.sh container
	$(PY) -m pytest tests/container

# Against chronyd, budgets judged; wants two idle cores and root (or user namespaces). About 20 minutes.
bench: build
	$(PY) -m tests.bench.core
	$(PY) -m tests.bench.start
	$(PY) -m tests.bench.control
	$(PY) -m tests.bench
	$(PY) -m tests.bench.keyexchange

# What reports cost those who are served, and listings of a million clients. Three minutes, the same wants.
bench-reports: build
	$(PY) -m tests.bench.clients
	$(PY) -m tests.bench.reports

# Whether a request is lost at 50,000 requests/s while the configuration changes; wants an idle machine. Half a minute.
bench-reload: build
	$(PY) -m tests.bench.reload

# How long a start takes and how much memory, budgets judged; wants an idle machine. Half a minute.
bench-start: build
	$(PY) -m tests.bench.start

# A minute's look at the same.
bench-quick: build
	$(PY) -m tests.bench --quick

# A daemon with everything switched on, for SOAK_S seconds at a fifth of what one core can: nothing may grow or get lost.
# SOAK_OPTIONS=--realtime lets other work on the machine go on meanwhile (needs root).
SOAK_S ?= 3600
SOAK_RATE ?= 50000
soak: build
	$(PY) -m tests.soak --duration $(SOAK_S) --rate $(SOAK_RATE) $(SOAK_OPTIONS)

# Processes killed, disks full or read-only, descriptors and memory gone; clocks that jump, in the simulator.
faults: build
	$(PY) -m pytest tests/system/test_faults.py tests/system/test_workers.py
	$(PY) -m tests.sim.run --only "a_jump_from_outside*"
	$(PY) -m tests.sim.run --only "a_clock_that_is_a_year_off*"
	$(PY) -m tests.sim.run --only "a_machine_that_slept*"

# The whole simulator: every scenario and the accuracy table with all their seeds. About 10 minutes on two cores.
sim: build
	$(PY) -m tests.sim.run

# Measure the accuracy table and write it down.
accuracy: build
	$(PY) -m tests.sim.run --only 'accuracy:*' --report docs/accuracy.md

clean:
	test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name peers -exec rm -rf {} +
	rm -rf ntpd_fast/*.so ntpd_fast/_*.c ntpd_fast/_*.html loadtest/*.so loadtest/_*.c loadtest/_*.html
