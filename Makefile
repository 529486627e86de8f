# make demo   hear a voice, train one, hear that too
# make test   lint, types and the test suite, on all cores (make test-all is what CI runs)
# Each does all of its own set-up, once, in .venv; it needs Python 3.10 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all test-slow mutants lint docs wheel wheels bench clean

SENTENCE = Hello! Every word of this sentence was spoken at once.

demo: $(READY)
	$(BIN)/unisono generate checkpoints/tts-en "$(SENTENCE)" -o demo/hello.wav --plot demo/hello.png
	$(BIN)/unisono train tts/quickstart --run.dir=demo/runs
	$(BIN)/unisono export demo/runs/tts-quickstart demo/quickstart --overwrite
	$(BIN)/unisono generate demo/quickstart "$(SENTENCE)" -o demo/hello-quickstart.wav --plot demo/hello-quickstart.png
	@echo
	@echo "The voice that ships:       demo/hello.wav             seen: demo/hello.png"
	@echo "The one you just trained:   demo/hello-quickstart.wav  seen: demo/hello-quickstart.png"

PYTEST = $(BIN)/python -m pytest -n auto --dist loadgroup

test: lint
	$(PYTEST)

# What continuous integration runs: the wheel in a fresh environment, the pages, and every test but slow and gpu ones.
test-all: wheel lint
	$(BIN)/python -m pip install -q --group docs
	$(PYTEST)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# One-line mistakes, put in one at a time: which do the tests find? Minutes to an hour; FILES=core/unisono/duration limits.
mutants: $(READY)
	$(BIN)/python tools/mutants.py $(FILES)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/undefined_names.py
	$(BIN)/pyright --warnings

docs: $(READY)
	$(BIN)/python -m pip install -q --group docs
	$(BIN)/python -m sphinx -W -b html docs docs/_build

# What there is to publish: the package, and a package for each model that ships.
wheels: $(READY)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/unisono package checkpoints/* --dest dist

# The built wheels, alone in a fresh environment and far from this folder, must serve: a voice by its name, and a run.
wheel: $(READY)
	rm -rf dist build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/unisono package checkpoints/tts-en --dest dist
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install -q "$$(ls dist/unisono-*.whl)[tts,codec]" dist/unisono_model_tts_en-*.whl
	cd build/wheel && venv/bin/unisono doctor && venv/bin/unisono plugins --strict && venv/bin/unisono models && \
	  venv/bin/unisono generate tts-en "This voice came out of a wheel." -o named.wav && \
	  venv/bin/unisono train tts/fastpitch-tiny --no-progress && \
	  venv/bin/unisono export runs/tts-fastpitch-tiny/0001 voice && \
	  venv/bin/unisono generate voice "Out of the wheel." -o out.wav
	rm -rf build/wheel

bench: $(READY)
	$(BIN)/python -m pip install -q --group bench
	$(BIN)/python benchmarks/alignment_search.py
	$(BIN)/python benchmarks/masked.py
	$(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/diffusion.py
	$(BIN)/python benchmarks/text.py
	$(BIN)/python benchmarks/lossless.py

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "unisono needs Python 3.10 or newer: make PYTHON=python3.11 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q -e ".[all]" --group dev
	$(BIN)/python -c 'import triton' 2>/dev/null || \
	  $(BIN)/python -m pip install -q --upgrade --no-deps --target $(VENV)/triton --group triton
	touch $(READY)

clean:
	rm -rf $(VENV) build dist demo runs
