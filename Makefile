# make study: everything, from nothing to report/report.pdf.   make test: every check.
# Both set up what is missing first and are quick when repeated. Everything else is snakemake, dvc or vit-registers.
.PHONY: study test units pipelines setup lock

BIN := .venv/bin

study: setup
	@$(BIN)/snakemake --cores all --quiet rules
	@test -f results/report.html && test -z "$$(find results/tables results/figures -newer results/report.html)" \
	    || $(BIN)/snakemake --quiet all --report results/report.html
	@workflow/scripts/made.sh

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy
	@echo "unit tests and whole pipelines, side by side: under twenty minutes on two cores"
	@$(MAKE) --no-print-directory --jobs 2 --output-sync units pipelines

units:
	$(BIN)/pytest --ignore tests/workflow

pipelines:
	$(BIN)/pytest tests/workflow

setup:
	@workflow/scripts/setup.sh

# After a change of pyproject.toml. No index and no URL may enter the lock file.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	    --quiet --output-file requirements.lock
