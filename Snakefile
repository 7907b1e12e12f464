# A study, from nothing to the report. Each rule calls one `vit-registers` command; see `vit-registers --help`.
#
#   snakemake --cores all                 everything (the same as the target `all`)
#   snakemake --cores all tables          or figures, report, or one file: results/embedded/tables/detection.csv
#   snakemake --cores all --configfile params/smoke.yaml      another study, in a folder of its own
#   snakemake --report report.html
#
# Params are read from params.yaml with overlays on top, checked, and cut into one part per job (rules/common.smk).
from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/study.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/steps.smk"
include: "workflow/rules/views.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/phases.smk"


localrules:
    all,
    tables,
    figures,


rule all:
    default_target: True
    input:
        # every phase, as DVC asks for each: what no measure of the study reads as well
        [paths for phase, paths in PHASES.items() if phase not in ("report", "report_text")],
        PHASES["report"] if TEX else PHASES["report_text"],


rule tables:
    input:
        PHASES["tables"],


rule figures:
    input:
        PHASES["figures"],


onsuccess:
    explain_success()


onerror:
    explain_error(log)
