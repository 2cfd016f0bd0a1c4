# `make book` and `make test` start from nothing but a Python and this folder: they make .venv, install the lock into it
# and say what they do. Nothing is asked, nothing needs root. `make help` lists the rest.

# The lock was made for 3.11. Another interpreter: make book PYTHON=python3.12
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Worker processes of the tests. Numerics use one thread each: on small matrices more only cost.
JOBS ?= 2
PYTEST_ARGS ?=
export OMP_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE ?= 1

PY := "$(VENV)/bin/python"
comma := ,
INSTALLED := $(subst $(eval ) ,\ ,$(VENV))/.installed
# A strict build: warnings are errors, references must resolve, and all faults are shown, not only the first. The builder
# imports jsonschema, which spends seconds on a grammar of addresses where it finds that package (qhlib/book/patches.py).
BUILDER := $(PY) -c 'import sys; sys.modules["rfc3987_syntax"] = None; from jupyter_book.cli.main import main; main()'
STRICT := $(BUILDER) build -W -n --keep-going

.DEFAULT_GOAL := help
.PHONY: help install book pages test test-machines test-legal test-installs course test-course bench lint slides pdf dist \
  fingerprint clean distclean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(INSTALLED) ## the environment in .venv, from the lock

$(INSTALLED): pyproject.toml constraints.txt
	@echo "==> making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The lock needs Python 3.11 or newer; this is %d.%d. Name another: make book PYTHON=/path/to/python" % sys.version_info[:2])'
	@test -x $(PY) || $(PYTHON) -m venv "$(VENV)"
	@echo "==> installing the locked environment (some minutes the first time)"
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[book,sweep,test]'
	@touch "$@"

# The fingerprint covers every input of the book and the installed versions. It is written only after a build without
# a fault, and what was there is removed before: what lies in _build/html, and the slides and the PDF beside it, are never
# stale and never failed. Pages that did not change are not read again, but all are written: every reference is resolved anew.
FINGERPRINT := $(PY) _ext/marginbook/fingerprint.py
# $(call make,MARK,RESULT,WORDS,COMMANDS)
make = if [ -e $(2) ] && [ "$$(cat _build/.$(1) 2>/dev/null)" = "$$($(FINGERPRINT))" ]; then \
    echo "==> nothing has changed since $(2) was made"; \
  else \
    echo "==> $(3)"; rm -rf $(2) _build/.$(1); inputs=$$($(FINGERPRINT)) && $(4) && echo "$$inputs" > _build/.$(1); \
  fi

book: $(INSTALLED) ## the book: executed, built strictly, in _build/html/index.html
	@$(MAKE) --no-print-directory pages

# The build without the installation, for an environment that is there already: make pages VENV="$$VIRTUAL_ENV"
pages:
	@$(PY) -c 'import jupyter_book' || { echo "The book cannot be built with $(VENV): see the line above."; exit 2; }
	@$(call make,book,_build/html,executing the notebooks and building the pages$(comma) strictly,$(STRICT) .)
	@echo "==> the book is in _build/html/index.html"

test: book ## all tests: numerics, notebooks, and the built pages in a browser
	@echo "==> running all tests in $(JOBS) processes"
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

# What is green on one processor is to be green on a reader's: the numerics once more under other instruction sets and
# numbers of threads. The variables stand in the command alone. AVX-512 only where there is some: torch does not ask.
NUMERICS := tests/test_*.py qhlib --ignore=qhlib/book --ignore=tests/test_packaging.py --ignore=tests/test_images.py
test-machines: $(INSTALLED) ## the numerical tests as on other processors: three instruction sets, one and two threads
	@run() { echo "==> $$*"; env "$$@" $(PY) -m pytest -q -n $(JOBS) $(NUMERICS); }; \
	run ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Prescott OMP_NUM_THREADS=1 && \
	run ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Nehalem OMP_NUM_THREADS=2 && \
	run ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell OMP_NUM_THREADS=1 && \
	run ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Zen OMP_NUM_THREADS=2 && \
	if grep -qs avx512f /proc/cpuinfo; then run ATEN_CPU_CAPABILITY=avx512 OPENBLAS_CORETYPE=SkylakeX OMP_NUM_THREADS=1; fi

# Hypothesis draws constants of the code among its values: other code, other sets. That finds faults, and is no part of
# continuous integration, where the same code has to give the same verdict for a change that is not at fault.
SETS ?= 20
test-legal: $(INSTALLED) ## SETS sets of random legal parameters of each notebook run to the end (minutes)
	@QHLIB_LEGAL=$(SETS) $(PY) -m pytest -q -n $(JOBS) tests/notebooks/test_legal.py

test-installs: ## the wheel, without extras, the newest versions, other Pythons: each in a fresh environment (minutes)
	@.ci/installs $(PYTHON)

course: $(INSTALLED) ## the exercises for nbgrader, for students and for teachers, in _build/course
	@test ! -e _build/course/submitted || { echo "_build/course holds what students handed in: move it away first."; exit 1; }
	@rm -rf _build/course && $(PY) -m qhlib.book.cli course -o _build/course

test-course: $(INSTALLED) ## nbgrader grades the exercises of all notebooks, solved and empty (minutes)
	@QHLIB_COURSE=1 $(PY) -m pytest -q -n $(JOBS) tests/book/test_course.py

bench: $(INSTALLED) ## the measurements behind the speed claims (minutes)
	@echo "==> measuring"
	@mkdir -p _build && $(PY) benchmarks/bench.py --json _build/bench.json --plot _build/bench-cost.png
	@$(PY) benchmarks/book.py --json _build/bench-book.json
	@$(PY) benchmarks/sweep.py --json _build/bench-sweep.json

lint: $(INSTALLED) ## style of the code
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

slides: $(INSTALLED) ## a deck of slides for each lead chapter, in _build/slides/index.html
	@$(call make,slides,_build/slides,drawing the slides from the marked cells,$(STRICT) --builder custom --custom-builder slides .)
	@echo "==> the slides are in _build/slides/index.html"

CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
# The virtual time is what the formulas may take; it stands still while something is loaded or computed.
PRINT = "$(CHROMIUM)" --headless --no-sandbox --disable-gpu --virtual-time-budget=600000 --no-pdf-header-footer \
  --generate-pdf-document-outline --print-to-pdf=_build/book.pdf "file://$(CURDIR)/_build/singlehtml/intro.html" 2>_build/print.log
pdf: $(INSTALLED) ## the book as one PDF with links and bookmarks, printed by Chromium (minutes)
	@test -n "$(CHROMIUM)" || { echo "A PDF is printed by Chromium, and none is installed (Debian: apt-get install chromium; without it: make dist PDF=)."; exit 1; }
	@$(call make,pdf,_build/book.pdf,building one page and printing it,$(STRICT) --builder singlehtml . && { $(PRINT) && test -s _build/book.pdf || { cat _build/print.log; false; }; })
	@echo "==> the book as one file is _build/book.pdf"

PDF ?= yes
dist: ## everything to take away in one zip: book, PDF, slides, claims as data (PDF= leaves the PDF out)
	@$(MAKE) --no-print-directory -j1 book slides $(if $(PDF),pdf)
	@$(PY) _ext/marginbook/dist.py $(if $(PDF),_build/book.pdf)

fingerprint: $(INSTALLED) ## what names the book of these inputs and versions
	@$(FINGERPRINT)

clean: ## remove what was built, and keep the executed notebooks
	@rm -rf _build/html _build/slides _build/book.pdf _build/singlehtml _build/.doctrees _build/jupyter_execute _build/assets _build/glued _build/.book _build/.slides _build/.pdf

distclean: ## remove everything that was made, the environment too
	@rm -rf _build dist "$(VENV)"
