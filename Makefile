# On a fresh Debian 12 two commands do everything: `make demo` and `make test`.

BIN := .venv/bin
STAMP := .venv/.installed
CODE := privacy edge ingest dashboards firmware-sim murmure tests $(wildcard docs/pictures/*.py benchmarks/*.py) benchmarks/utility benchmarks/ingest benchmarks/site
# libatomic1: playwright drives chromium through a Node of its own, which needs it.
DEBIAN := mosquitto mosquitto-clients victoria-metrics chromium debootstrap fonts-dejavu-core libatomic1 strace mbpoll systemd \
	prometheus prometheus-alertmanager nats-server nginx influxdb w3m default-jre-headless libpango-1.0-0 libpangoft2-1.0-0 \
	libharfbuzz-subset0
PYTEST := $(BIN)/pytest --durations=15
# Hundreds of tests start a process, and each would compile all of Murmure again where what is compiled is not kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install packages demo lint test test-long campaign campaign-ingest mutants bench bench-utility bench-accuracy bench-ingest bench-site gateway-bundle grafana lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

install: $(STAMP) ## .venv with everything, each package pinned and its hash checked

$(STAMP): pyproject.toml constraints.txt constraints-judge.txt tests/judges/package-lock.json .ci/venv
	.ci/venv .venv
	touch $@

packages: ## Debian packages that groups of tests need (as root or through sudo; else only named)
	.ci/packages $(DEBIAN)

demo: $(STAMP) ## the whole pipeline on this machine; ARGS="--once --days 2" passes on
	$(BIN)/murmure demo $(ARGS)

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)

test: $(STAMP) packages lint ## lint and every quick test, with coverage
	.ci/test $(ARGS)

test-long: $(STAMP) packages ## the tests that take minutes
	.ci/test-long $(ARGS)

campaign: $(STAMP) packages ## the long tests at full size and a million inputs a driver, for hours
	MURMURE_CAMPAIGN=1 $(PYTEST) -m long $(ARGS)
	$(BIN)/python tests/edge/fuzz_drivers.py --runs 1000000

campaign-ingest: $(STAMP) packages ## broker, centre, mirror and database killed 500 times under load
	MURMURE_CAMPAIGN=1 $(PYTEST) -s -m long tests/end_to_end/test_ingest_kills.py $(ARGS)

mutants: $(STAMP) ## small faults in the privacy kernel, each of which a test must notice; ARGS="--sample 100"
	$(BIN)/python tests/mutants.py --page docs/mutants.md $(ARGS)

audit: $(STAMP) ## prove from outside what the gateway's messages reveal, at full size
	$(BIN)/murmure audit --rho 0.5 --runs 5000 --picture docs/pictures/audit.svg $(ARGS)
	$(BIN)/murmure audit --rho 0.1 --runs 5000 $(ARGS)
	$(BIN)/murmure audit --policy docs/audit-policy.toml --runs 5000 $(ARGS)

bench: $(STAMP) ## each benchmark beside a limit or a peer
	set -e; for file in $(wildcard benchmarks/*.py); do echo "== $$file"; $(BIN)/python "$$file"; done

bench-utility: $(STAMP) ## errors on recordings beside bounds and other mechanisms; writes docs/utility.md
	$(BIN)/python -m benchmarks.utility $(ARGS)

bench-accuracy: $(STAMP) ## what beams and radars count beside the truth, in simulation; writes docs/accuracy.md
	$(BIN)/python benchmarks/footfall_accuracy.py --write $(ARGS)

bench-ingest: $(STAMP) ## the centre beside mosquitto_sub on the same queue, on a quiet machine; ARGS="--rounds 1"
	$(BIN)/python -m benchmarks.ingest $(ARGS)

bench-site: $(STAMP) ## a large town's site built, drawn beside matplotlib, pygal and Vega-Lite, served beside nginx; ARGS="--dir DIR"
	$(BIN)/python -m benchmarks.site $(ARGS)

gateway-bundle: $(STAMP) ## one archive that installs a gateway without network; ARCH=aarch64 or x86_64
	$(BIN)/python edge/bundle/build.py $(if $(ARCH),--arch $(ARCH))

grafana: $(STAMP) ## the dashboards for technicians, as JSON
	$(BIN)/murmure grafana build dashboards/grafana

lock: ## fresh versions and hashes (needs uv on the PATH)
	.ci/lock

clean: ## forget .venv, caches and the demo's data
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage dist demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
