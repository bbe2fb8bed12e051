# The commands of this project; `make help` lists them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint scripts-test bench fixtures parity clean

PYTHON ?= python3
# Programs that set-up placed come before those installed on the machine.
export PATH := $(CURDIR)/.cache/bin:$(PATH)
export ORT_DYLIB_PATH ?= $(CURDIR)/.cache/lib/libonnxruntime.so

help: ## Lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: ## Fetches and verifies everything that the tests need (once)
	$(PYTHON) scripts/setup.py test

demo: ## Builds the worker and runs it on the sample photos, then leaves it running
	$(PYTHON) scripts/setup.py runtime
	cargo build --release --locked
	scripts/demo.sh

test: setup lint scripts-test ## Runs every check and the whole suite, emulators included
	cargo nextest run --locked

# Everything under `make test` uses the dev profile and one target folder, so nothing is built twice.
lint: setup ## Checks formatting, lints, licences, sources and advisories
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	scripts/check-advisories.sh

scripts-test: ## Tests set-up and the demo script
	$(PYTHON) -m unittest discover -s scripts/tests -t scripts

bench: ## Times the worker's own path against a bare run of the network
	$(PYTHON) scripts/setup.py runtime
	cargo build --release --locked
	target/release/cutout bench samples

fixtures: ## Makes the samples, odd images and reference masks again, without the Rust code
	$(PYTHON) scripts/setup.py runtime
	scripts/make_fixtures.sh

parity: ## Makes the parity fixture again with transparent-background and compares exported graphs with PyTorch (6 GB of Python, minutes)
	tests/parity/make.sh

clean: ## Removes the build and the demo's data; keeps what set-up fetched in .cache
	cargo clean
	rm -rf data
