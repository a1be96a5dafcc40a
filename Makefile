# make demo: installs what training needs, trains, evaluates and predicts.  make test: installs all extras, runs all tests.
# Both create .venv if it does not exist.
# make test-extras: tests what recog does with pandas, polars, joblib and Ray.
# make test-browser: installs Chromium if it is absent (Debian, Ubuntu) and opens the pages that recog writes in it.
# make ledger: every kind of bad image and dataset that is tested, with the result.
# make wheel: builds the wheel, installs it in a clean environment without and with each extra, verifies a bundle and trains.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test test-browser chromium test-extras ledger wheel check format clean
.DELETE_ON_ERROR:

$(VENV)/trains: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recog needs Python 3.11 or newer; name one: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,serve]'
	touch $@

$(VENV)/installed: $(VENV)/trains
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,data,fast,heic,dicom-jpeg,serve,tune,postgresql,explain,quantize,plots,docs,dev,test-extras]'
	touch $@

demo: $(VENV)/trains
	$(BIN)/python examples/demo.py $(DEMO)

test: $(VENV)/installed
	$(BIN)/pytest --numprocesses auto --dist loadscope

test-browser: $(VENV)/installed chromium
	$(BIN)/pytest tests/browser

chromium:
	@command -v chromium >/dev/null || { \
	  sudo=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	}

test-extras: $(VENV)/installed
	$(BIN)/pytest tests/end_to_end/test_python_tools.py tests/data/lists/test_frames.py tests/evaluation/results/test_rows.py

ledger: $(VENV)/installed
	$(BIN)/pytest --quiet tests/hostile -k ledger

wheel: $(VENV)/installed
	$(BIN)/python .ci/wheel.py $(BIN)/python

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
