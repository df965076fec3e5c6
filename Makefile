# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 500
MINUTES ?= 1
PEERS ?= 4
SEED ?= 1
STAMP := $(VENV)/.installed
# Many containers set it, and then each of the hundreds of processes of the tests compiles anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo scenarios test check install sim chaos parity sameness soak ask prompt-storm prompt-floods long-feed bench conformance clean

demo: install
	@$(BIN)/p2pnode demo

scenarios: install
	@$(BIN)/p2pnode demo --scenario all --headless --report scenarios.json

test: install
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n 2 -m "not processes"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt collectives/kernels/loops.c p2p/serving/kernels/rows.c
	@echo "[install] creating $(VENV) with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[install] installing p2pnode and what it needs (torch is the large one; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 2>&1 \
		| grep -v '^WARNING: Location' || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>&1 \
		| grep -v '^WARNING: Location' || true
	@$(BIN)/python -c 'import p2p, torch, textual, zmq, pytest' || { echo "[install] failed: see above"; exit 1; }
	@touch $(STAMP)
	@echo "[install] done"

sim: install
	@$(BIN)/python -m tools.simulate --seeds $(SEEDS) --jobs 2

chaos: install
	@$(BIN)/python -m tools.chaos --minutes $(MINUTES) --seed $(SEED)

soak: install
	@$(BIN)/python -m tools.storm --minutes $(MINUTES) --peers $(PEERS) --seed $(SEED)

ask: install
	@$(BIN)/python -m tools.train_and_ask

prompt-storm: install
	@$(BIN)/python -m tools.prompt_storm --minutes $(MINUTES) --seed $(SEED)

prompt-floods: install
	@$(BIN)/python -m tools.prompt_storm.floods --seed $(SEED)

long-feed: install
	@TUI_HOURS=2 $(BIN)/python -m pytest -q --timeout 3600 tests/test_tui_long.py

bench: install
	@$(BIN)/python -m tools.bench recovery
	@$(BIN)/python -m tools.bench allreduce
	@$(BIN)/python -m tools.bench memory

parity: install
	@PARITY_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q -n 2 --timeout 3600 tests/test_builtin_parity.py

sameness: install
	@$(BIN)/python -m tools.sameness

conformance: install
	@$(BIN)/python -m tools.conformance

clean:
	rm -rf $(VENV) build collectives/kernels/*.so p2p/serving/kernels/*.so *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
