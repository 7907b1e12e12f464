# make study: everything, from nothing to results/embedded/report/report.pdf.   make test: every check.
# Both set up what is missing first and are quick when repeated. Everything else is snakemake, dvc or vit-registers.
.PHONY: study extended quick test long hostile checks units units-quick pipelines pipelines-few pipelines-finished setup lock schema

BIN := .venv/bin
RESULTS := results/embedded

study: setup
	@$(BIN)/snakemake --cores all --quiet rules
	@test -f $(RESULTS)/report.html && test -z "$$(find $(RESULTS)/tables $(RESULTS)/figures -newer $(RESULTS)/report.html)" \
	    || $(BIN)/snakemake --quiet all --report $(RESULTS)/report.html
	@workflow/scripts/made.sh $(RESULTS)

# The embedded study with all register counts, sizes and conditions, and repeated trainings. About an hour on two
# cores, estimated.
extended: setup
	@$(BIN)/snakemake --cores all --quiet rules --configfile params/extended.yaml
	@workflow/scripts/made.sh results/extended

# Style, types, and the tests that need no pipeline and little time: about two minutes on two cores.
quick: setup
	@$(MAKE) --no-print-directory --output-sync=target -j2 checks units-quick

# About fourteen minutes on two cores; more than half of it whole pipelines.
test: setup
	@$(MAKE) --no-print-directory --output-sync=target -j2 checks units
	@$(MAKE) --no-print-directory pipelines

# What takes too long for every change: all papers end to end on small data, hostile input, kills, clusters.
long: setup
	$(BIN)/pytest -m long --durations=0

# Input that is wrong or means harm, damaged files, signals and full disks, through the command line.
hostile: setup
	$(BIN)/pytest -n 2 -m hostile tests/hostile --durations=12

checks:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/lint-imports
	$(BIN)/mypy

units:
	$(BIN)/pytest -n 2 -m "not pipeline and not long and not hostile" --durations=12

units-quick:
	$(BIN)/pytest -n 2 -m "not pipeline and not slow and not long and not hostile"

# Two at once, each with its own finished study (tests/workflow/conftest.py).
pipelines:
	@$(MAKE) --no-print-directory --output-sync=target -j2 pipelines-few pipelines-finished

pipelines-few pipelines-finished:
	$(BIN)/pytest tests/workflow/$(@:pipelines-%=%) -m "not long" --durations=12

setup:
	@workflow/scripts/setup.sh

# After a change of params' classes.
schema:
	$(BIN)/vit-registers schema workflow/schemas/params.schema.json

# After a change of pyproject.toml. No index and no URL may enter the lock file.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	    --quiet --output-file requirements.lock
