# tenclip. Every target sets up what it needs; `make demo` and `make test` are all a newcomer has to know.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extras that `make setup` installs, from the versions in constraints.txt; other ones are added to what is there.
EXTRAS := all,torchserve,dev
READY := $(VENV)/.ready-$(EXTRAS)

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv and install everything into it.

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"tenclip needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}. Name another: make setup PYTHON=python3.12")'
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(READY) ## Train, export, serve and query a small model; writes demo/report.html.
	$(BIN)/tenclip demo --out demo $(ARGS)

# A file of tests stays in one process, with its fixtures. Where ARGS names tests, they run in a single one.
WORKERS ?= 2
# What fails beside others on a busy machine is run once more, and the summary names it; what fails twice has failed.
PARALLEL := $(if $(filter tests%,$(ARGS)),,-n $(WORKERS) --dist loadfile --no-loadscope-reorder --reruns 1 -m "not long")
test: $(READY) ## Run all tests but long proofs (`make soak`), or those named in ARGS.
	$(BIN)/python -u -m pytest $(PARALLEL) $(ARGS)

system-packages: ## Install what some tests need of Debian's packages (as root): a browser, an RTSP server.
	@packages=$$(grep -v '^#' tests/system-packages.txt); \
	if dpkg -s $$packages >/dev/null 2>&1; then echo "system packages are there"; else \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; fi

helm: $(READY) ## Put Helm into .venv (38 MB), for the tests of k8s/helm.
	@test -x $(BIN)/helm || $(BIN)/python -m tests.k8s.get_helm

# An environment of its own: its pins are not ours. Only what its import needs is compiled, a small part of it.
KSERVE := $(VENV)/kserve
kserve-client: $(KSERVE)/.ready ## Put KServe's Python client into .venv/kserve (350 MB), for the tests of k8s/kserve.

$(KSERVE)/.ready: tests/k8s/kserve-client.txt | $(READY)
	@echo "Setting up $(KSERVE)"
	@rm -rf $(KSERVE)
	@$(BIN)/python -m venv $(KSERVE)
	@$(KSERVE)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	@env -u PYTHONDONTWRITEBYTECODE $(KSERVE)/bin/python -c "import kserve, kserve_storage"
	@touch $@

check: $(READY) ## Lint, types, import contracts, generated stubs.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory check-stubs

check-stubs: $(READY)
	@stubs=$$(mktemp -d); trap 'rm -rf "$$stubs"' EXIT; \
	$(MAKE) --no-print-directory stubs STUBS="$$stubs"; \
	for stub in $$( (cd clients; ls tenclip_api/*/*_pb2*.py*; cd "$$stubs"; ls tenclip_api/*/*_pb2*.py*) | sort -u); do \
	  cmp "clients/$$stub" "$$stubs/$$stub" || { echo "clients/$$stub is not what its .proto says: run make stubs" >&2; exit 1; }; \
	done; echo "stubs are up to date"

STUBS := clients
stubs: $(READY) ## Generate the Python code of the .proto files.
	@$(BIN)/python -m grpc_tools.protoc -I clients \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(STUBS) --grpc_python_out=$(STUBS) --mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) \
	  clients/tenclip_api/*/*.proto

bench: $(READY) ## Measure speed, as ratios side by side; results/ gets the JSON.
	$(BIN)/python -m tests.benchmarks $(ARGS)

soak: $(READY) ## Run the long proofs, or those named in ARGS; results/ gets the JSON.
	$(BIN)/python -m tests.soak $(ARGS)

salience: $(READY) ## Show on generated videos what salient clips bring, in 3 seeds; results/salience/ gets the page.
	$(BIN)/python -m tenclip_findings.salience --out results/salience $(ARGS)

findings: $(READY) ## Repeat the papers' findings in small, or those named in ARGS; docs/findings.md gets the table.
	$(BIN)/tenclip findings --out results/findings --page docs/findings.md $(ARGS)

gpu-check: $(READY) ## Check exactness and speed on this machine's GPU in 8 minutes; docs/gpu.md gets the tables.
	$(BIN)/python -m tests.gpu_check $(ARGS)

gpu-wheels: $(READY) ## Gather into .gpu-wheels what a bare machine lacks for gpu-check (44 MB).
	$(BIN)/python -m tests.gpu_check.wheels $(ARGS)

image: $(READY) ## Build an image with docker or buildah; ARGS="--target batch", PYTHON_IMAGE=..., RELEASE=1: docs/image.md.
	@$(BIN)/python -m tests.image build $(ARGS)

image-base: $(READY) ## Make a base image of Debian's packages, where no registry can be reached (as root).
	@$(BIN)/python -m tests.image base $(ARGS)

image-locks: $(READY) ## Lock the images' packages by hash, from pyproject.toml and constraints.txt.
	@PYTHONPATH=k8s/image $(BIN)/python -m tenclip_image.locks $(ARGS)

sbom: $(READY) ## Write the bill of materials of a built image to results/image/.
	@$(BIN)/python -m tests.image sbom $(ARGS)

docs: $(READY) ## Build the documentation into site/, warnings as errors.
	$(BIN)/python -m mkdocs build --quiet --strict
	@echo "open site/index.html"

clean: ## Remove the environment, caches and results.
	rm -rf $(VENV) demo results site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help setup demo test system-packages helm kserve-client check check-stubs stubs bench soak findings salience gpu-check gpu-wheels image image-base image-locks sbom docs clean
