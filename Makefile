# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Each target sets up what it needs and skips what is done. Nothing here but the order of things:
# packages and virtual environment are harness/setup.py, kernels and guest root bpfthrow itself.

PYTHON ?= python3
KERNELS ?=
ARGS ?=

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
# 6.12 for run; test takes the newest of the catalogue too
RUN_KERNELS := $(or $(KERNELS),6.12)
TEST_KERNELS := $(or $(KERNELS),6.12 7.3)

READY_FROM := pyproject.toml vm/packages.toml harness/setup.py
# an environment whose interpreter is gone, or that was moved here, is made again
$(shell test -x $(BIN)/python && grep -qsF " $(CURDIR) " .venv/.stamp \
	|| rm -f .venv/.ready .venv/.ready-test .venv/.ready-lint .venv/.ready-fuzz .venv/.ready-exhaustive)

.PHONY: bugs docs verdicts setup-build test-exhaustive test-patched fuzz-parsers run test lint bench setup clean distclean help

run: .venv/.ready ## run the cases: make run KERNELS=all ARGS="--html build/matrix.html"
	@$(BIN)/bpfthrow run $(addprefix --kernel ,$(RUN_KERNELS)) $(ARGS)

test: .venv/.ready-test ## the project's own tests, and the cases on 6.12 and the newest kernel
	@$(BIN)/bpfthrow setup $(addprefix --kernel ,$(TEST_KERNELS))
	@$(BIN)/python -m pytest $(addprefix --kernel ,$(TEST_KERNELS)) $(ARGS)

bugs: .venv/.ready ## the known kernel bugs, which crash their guests: make bugs KERNELS=all
	@$(BIN)/bpfthrow bugs $(addprefix --kernel ,$(RUN_KERNELS)) $(ARGS)

lint: .venv/.ready-lint ## ruff, mypy, clang-format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@find progs -name '*.[ch]' | xargs -r clang-format-19 --dry-run -Werror

bench: .venv/.ready ## time from make run to the first verdict, cases a second, whole suite
	@$(BIN)/bpfthrow bench $(addprefix --kernel ,$(RUN_KERNELS)) $(ARGS)

fuzz-parsers: .venv/.ready-fuzz ## ten minutes of atheris: make fuzz-parsers ARGS="-max_total_time=60 btf"
	@$(BIN)/python tests/fuzz/driver.py $(ARGS)

setup: ## everything that run needs, checked again from the beginning
	@$(PYTHON) -I harness/setup.py run
	@touch .venv/.ready
	@$(BIN)/bpfthrow setup $(addprefix --kernel ,$(RUN_KERNELS))

setup-build: .venv/.ready ## what compiles kernels: bpfthrow kernels build
	@$(PYTHON) -I harness/setup.py run build

test-patched: setup-build ## compile our two series for 7.3 and hold them against it (half an hour)
	@$(BIN)/bpfthrow setup --kernel 7.3
	@$(BIN)/python -m pytest tests/patched --kernel 7.3 $(ARGS)

docs: .venv/.ready ## write docs/rejections.md from progs/reject
	@mkdir -p build
	@$(BIN)/python -m harness.rejections > build/rejections.md
	@mv build/rejections.md docs/rejections.md

# memory of one step is used again in the next, instead of given back and asked for (glibc)
test-exhaustive: .venv/.ready-exhaustive ## the verifier model's numbers, all of 8 bits (or make test-exhaustive BITS=6)
	@EXHAUSTIVE_BITS=$(or $(BITS),8) EXHAUSTIVE_PAIRS=$(or $(PAIRS),4) \
		MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592 \
		$(BIN)/python -m pytest -n auto tests/exhaustive $(ARGS)

verdicts: .venv/.ready ## the verifier model against kernels, on mutants of progs/: make verdicts ARGS="--seed 1"
	@$(BIN)/python tests/campaign/verdicts.py $(addprefix --kernel ,$(TEST_KERNELS)) $(ARGS)

clean: ## remove what was built in the checkout (not .venv, not the cache)
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf .venv *.egg-info

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1	\2/p' Makefile | expand -t 20

.venv/.ready: $(READY_FROM)
	@$(PYTHON) -I harness/setup.py run
	@touch $@

.venv/.ready-test: $(READY_FROM)
	@$(PYTHON) -I harness/setup.py run test
	@touch $@ .venv/.ready

.venv/.ready-lint: $(READY_FROM)
	@$(PYTHON) -I harness/setup.py run lint
	@touch $@ .venv/.ready

.venv/.ready-fuzz: $(READY_FROM)
	@$(PYTHON) -I harness/setup.py run fuzz
	@touch $@ .venv/.ready

.venv/.ready-exhaustive: $(READY_FROM)
	@$(PYTHON) -I harness/setup.py run exhaustive
	@touch $@ .venv/.ready
