# The commands of this project; `make help` lists them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint scripts-test terraform-test bench eval bench-pixels bench-effects bench-foreground bench-peers simulate image image-test fixtures pictures pictures-edges parity soak fuzz clean

PYTHON ?= python3
SETUP = @command -v $(PYTHON) >/dev/null || { \
	echo "$(PYTHON) is missing: install Python 3.9 or newer (on Debian: apt-get install python3 python3-pip)"; \
	exit 1; }; $(PYTHON) scripts/setup.py
# Programs that set-up placed come before those installed on the machine.
export PATH := $(CURDIR)/.cache/bin:$(PATH)
export ORT_DYLIB_PATH ?= $(CURDIR)/.cache/lib/libonnxruntime.so

help: ## Lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

setup: ## Fetches and verifies everything that the tests need (once)
	$(SETUP) test

demo: ## Builds the worker and runs it on the sample photos, then leaves it running
	$(SETUP) runtime
	cargo build --release --locked
	scripts/demo.sh

test: setup lint scripts-test ## Runs every check and the whole suite, emulators included
	cargo nextest run --locked --features failpoints
	PYTHON=$(PYTHON) scripts/check-image.sh

# Everything under `make test` uses the dev profile and one target folder, so nothing is built twice.
lint: setup ## Checks formatting, lints, licences, sources, advisories and alerting rules
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	cargo clippy --locked -- -D warnings
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	scripts/check-advisories.sh
	scripts/check-alerts.sh

scripts-test: terraform-test ## Tests set-up, the demo script, the dashboard, the scripts around the image, the Terraform code and its check, the comparison with peers and the simulation
	$(SETUP) simulation
	$(SETUP) monitoring
	$(SETUP) image
	$(PYTHON) -m unittest discover -s scripts/tests -t scripts
	$(PYTHON) -m unittest discover -s bench/tests -t .

terraform-test: ## Checks and tests the Terraform code, and the manifests for GKE, without cloud, provider or network (docs/deploy.md)
	$(SETUP) terraform
	PYTHON=$(PYTHON) scripts/check-terraform.sh

bench: ## Times the worker's own path against a bare run of the network
	$(SETUP) runtime
	cargo run --release --locked -- bench stages samples

bench-pixels: ## Times every step of pixel work on 12 megapixels, next to what could be used instead
	cargo bench --locked --bench pixels

bench-effects: ## Times every effect on 12 megapixels, next to the same arithmetic in NumPy and OpenCV, in turns (EFFECTS_FLAGS)
	"$$(tests/effects/environment.sh)/bin/python" bench/effects.py $(EFFECTS_FLAGS)

eval: ## Measures both embedded networks on the checked-in evaluation set (docs/evaluation.md)
	$(SETUP) runtime
	cargo run --release --locked -- eval tests/fixtures/eval/images tests/fixtures/eval/masks --model isnet-medium --model isnet-small --provider cpu

bench-foreground: ## Times the estimation of the subject's colours on 12 megapixels, next to PyMatting, in turns (FOREGROUND_FLAGS)
	"$$(tests/foreground/environment.sh)/bin/python" bench/foreground.py $(FOREGROUND_FLAGS)

bench-peers: ## Runs the same photos through cutout and rembg with the same weights, in turns; writes JSON, picture and tables (PEERS_FLAGS; 20 minutes)
	$(SETUP) runtime
	[ -n "$$CUTOUT_BIN" ] || cargo build --release --locked
	$(PYTHON) -m bench.peers $(PEERS_FLAGS)
	.cache/venv-peers/bin/python bench/plot.py

simulate: ## Prints how many workers a load takes, and what they cost (MEASURED=bench.json for your own figures)
	$(SETUP) simulation
	$(PYTHON) bench/simulate.py answers $(if $(MEASURED),--measured $(MEASURED))

image: ## Builds the container image, checks its libraries, writes its bill of materials (PROVIDER=cpu|cuda, MODEL; docs/image.md)
	PYTHON=$(PYTHON) scripts/image.sh $(or $(PROVIDER),cpu)

image-test: ## Builds the image and runs a worker out of it against the emulators (PROVIDER=cpu|cuda)
	$(SETUP) image-test
	PYTHON=$(PYTHON) scripts/image.sh $(or $(PROVIDER),cpu) test

fixtures: ## Makes the samples, odd images, reference masks and the evaluation set again, without the Rust code
	$(SETUP) runtime
	scripts/make_fixtures.sh

pictures: ## Makes the README's pictures again, with the program
	$(SETUP) runtime
	cargo build --release --locked
	for photo in cat coffee; do \
	  target/release/cutout remove samples/$$photo.jpg -o docs/images/$$photo.png --overwrite && \
	  target/release/cutout remove samples/$$photo.jpg -o docs/images/$$photo-blue.png --kind color:#2b6cb0 --overwrite && \
	  target/release/cutout remove samples/$$photo.jpg -o target/$$photo.png --contact-sheet docs/images/$$photo-effects.png --overwrite || exit 1; \
	done

pictures-edges: ## Makes the pictures of docs/quality.md again, with the program
	$(SETUP) runtime
	cargo build --release --locked
	"$$(tests/eval/environment.sh)/bin/python" scripts/make_large_set.py target/large
	"$$(tests/foreground/environment.sh)/bin/python" scripts/edge_pictures.py

parity: ## Makes the parity fixture again with transparent-background, compares exported graphs with PyTorch and the worker with both (6 GB of Python, minutes)
	$(SETUP) runtime
	tests/parity/make.sh

soak: setup ## Runs 2,000 jobs through everything that can break, in cloud and local mode, and prints the accounts (CHAOS_JOBS, CHAOS_SEED)
	CHAOS_JOBS=$${CHAOS_JOBS:-2000} cargo nextest run --locked --features failpoints --test chaos --test chaos_local --no-capture --profile soak

fuzz: ## Fuzzes every target for FUZZ_SECONDS (60), or FUZZ_TARGET alone; needs nightly Rust and cargo-fuzz (docs/fuzzing.md)
	scripts/fuzz.sh

clean: ## Removes the build and the demo's data; keeps what set-up fetched in .cache
	cargo clean
	rm -rf data
