# Thin names for what tox and onebox do. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help bootstrap up down test images format lint

# The environment that tools/bootstrap makes.
BIN := .venv/bin

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

bootstrap: ## Install the pinned tools into .venv
	@tools/bootstrap

up: bootstrap ## Deploy the bundle on this machine, and print how to reach it (root)
	@onebox/bin/onebox up

down: bootstrap ## Remove everything that `make up` made on this machine (root)
	@onebox/bin/onebox down

images: bootstrap ## Build the workload images; with REGISTRY=host:port also push them there
	@$(BIN)/python -m onebox.setup $(if $(REGISTRY),--registry $(REGISTRY))

test: bootstrap ## Run every check and test that needs no Juju controller (root)
	@$(BIN)/tox run-parallel --parallel-no-spinner -e lint,unit,pack,collect
	@$(BIN)/tox run -e functional,e2e

format: bootstrap ## Format the sources
	@$(BIN)/tox -q run -e format

lint: bootstrap ## Check style, types and spelling
	@$(BIN)/tox -q run -e lint
