# Each target sets up everything it needs: a .venv beside this file, and in it the packages of
# pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: train test soak bench learning fmt clean

# Hope on the Python standard library: 3 layers, d 192, four CMS periods; at most 15 minutes on 2
# cores, compilation included.
train: $(READY)
	$(BIN)/nldsl train examples/hope.nl --set d=192 --set head=6 --set depth=3 --set near=32 \
		--steps 180 --batch 8 --length 256

# One process a core, each with half of the files and, at the end, with tests of the other half.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n 2

test: $(READY)
	$(PYTEST) --dist worksteal -m "not soak"

# The long bars in full, then the first model of a newcomer, alone on the machine; writes down what
# came out. The harness that scores models of others and the boards that numbers of runs go to are
# installed for it alone.
soak: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[eval,log]"
	$(PYTEST) --dist worksteal -m soak --soak-log=examples/LOG.md --deselect=tests/test_readme.py tests
	$(BIN)/python -m pytest -q -m soak --soak-log=examples/LOG.md tests/test_readme.py

# Specs beside PyTorch's own transformer and what others publish, what a token costs in longer
# texts, every spec with and without the compiler. Hours, on a machine that does nothing else.
bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[bench,target]"
	$(BIN)/python -m benchmarks systems --out benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks sweep --out benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks captures --out benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks gpu --out benchmarks/GPU.md
	$(BIN)/nldsl bench examples/titans.nl --set d=192 --set depth=3
	$(BIN)/nldsl bench examples/hope.nl --set d=192 --set depth=3 --set span=32

# Does it learn as the paper says? Half a day, and as long for other periods; what is recorded is
# not run again.
HOURS := 12
learning: $(READY)
	$(BIN)/python -m benchmarks.learning run --hours $(HOURS)
	$(BIN)/python -m benchmarks.learning run --hours $(HOURS) --system spectrum \
		--change "periods 1" --change "periods 1 4" --change "periods 1 4 16" \
		--change "periods 1 2 4 8" --change "periods 1 8 64 512"
	$(BIN)/python -m benchmarks.learning report

fmt: $(READY)
	$(BIN)/ruff check --fix nldsl tests
	$(BIN)/nldsl fmt --write examples/*.nl nldsl/std/*.nl

# torch first and exactly: a range would fetch the newest build with gigabytes of CUDA packages.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $(READY)

clean:
	rm -rf .venv build dist
