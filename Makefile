# What a person types. `make` alone lists it. The work is done by the scripts that are named here.
#
#   CONTEXT=name           use this kube context's cluster instead of Paquebot's own
#   QUICK=1                make bench measures less
#   IMAGE_REGISTRY=prefix  push the images there, for a cluster that cannot be loaded directly

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
export CONTEXT IMAGE_REGISTRY ZONE_COMMAND

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@sed -n 's/^#   \([A-Z_]*=\)/  \1/p' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## tell the whole story on a real Kubernetes: install, apply, send, relay, fetch
	@scripts/demo

.PHONY: try
try: ## run the server from examples/ on loopback, without a cluster (ports: SMTP_PORT=…, data: DATA_DIR=…)
	@scripts/try

.PHONY: test
test: ## everything: format, lints, licences, unit and black-box tests, then end to end on a real Kubernetes
	@scripts/test

.PHONY: unit
unit: ## unit, property and black-box tests only (no cluster)
	@scripts/test format clippy unit

.PHONY: power-cut
power-cut: ## cut the power of a server under load 200 times (POWER_CUTS=…), and compare what is left (root, loop devices)
	@POWER_CUTS=$${POWER_CUTS:-200} scripts/test power

.PHONY: lint
lint: ## format, clippy, licences, shell scripts and the chart only
	@scripts/test format clippy deny shell chart

.PHONY: e2e
e2e: ## the end-to-end suite only, on a real Kubernetes
	@scripts/test cluster images e2e

.PHONY: bench
bench: ## ours beside Postfix and Dovecot on this machine's disk, 12 minutes (QUICK=1: 2; root, Debian)
	@scripts/bench $(if $(QUICK),quick,full)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_SECONDS=60 each; what it finds is below target/fuzz/found
	@scripts/fuzz

.PHONY: images
images: ## build both container images (pushed to IMAGE_REGISTRY where it is given)
	@scripts/images

.PHONY: crds
crds: ## write the CustomResourceDefinitions from the Rust types, and copy them into the chart
	@scripts/crds

.PHONY: cluster-up
cluster-up: ## bring up a one-node Kubernetes on this machine (root, Debian)
	@tests/cluster/cluster up

.PHONY: cluster-down
cluster-down: ## remove it and every trace of it
	@tests/cluster/cluster down
