# The study, from nothing to the report. Each rule calls one `vit-registers` subcommand; see --help of each.
#
#   snakemake --cores all                 everything (the same as the target `all`)
#   snakemake --cores all tables          or figures, report, or one file: results/tables/detection.csv
#   snakemake --cores all --configfile params/smoke.yaml
#   snakemake --report results/report.html
#
# Params are read from params.yaml, checked, and cut into one slice per job (workflow/rules/common.smk).
configfile: "params.yaml"


report: "workflow/report/study.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/registers.smk"
include: "workflow/rules/readouts.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/phases.smk"


localrules:
    all,
    tables,
    figures,


rule all:
    default_target: True
    input:
        *PHASES["metrics"],
        *PHASES["tables"],
        *PHASES["figures"],
        *(PHASES["report"] if TEX else PHASES["report_text"]),


rule tables:
    input:
        PHASES["tables"],


rule figures:
    input:
        PHASES["figures"],


onsuccess:
    explain_success()


onerror:
    explain_error()
