# The tidy table, and its views: tables and figures. Nothing is computed here.

MEASURES = steps.measured(STUDY)
TABLES = steps.shown(STUDY, experiment.tables())
FIGURES = steps.shown(STUDY, experiment.figures())
PLAN = canonical(plan(STUDY).model_dump(mode="json"))


# A table for each measure, so that a view depends on the rows that it shows and no others.
rule collect:
    input:
        lambda w: [path for path in jobs_of(steps.steps()[w.measure]) if path.endswith("rows.csv")],
    output:
        str(AT.rows("{measure}")),
    log:
        log_of("collect", "{measure}"),
    wildcard_constraints:
        measure=one_of(MEASURES),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=digest.code("vit_registers.pipeline.collecting:collect"),
    shell:
        f"vit-registers collect {{wildcards.measure}} --params {AT.params} 2> {{log}}"


rule summarise:
    input:
        [str(AT.rows(measure)) for measure in MEASURES],
    output:
        table=str(AT.table),
        summary=str(AT.summary),
    log:
        log_of("summarise"),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=digest.code("vit_registers.pipeline.collecting:summarise"),
    shell:
        f"vit-registers summarise --params {AT.params} 2> {{log}}"


rule table:
    input:
        lambda w: rows_of(experiment.tables()[w.table][1]),
    output:
        csv=report(
            str(AT.tables / "{table}.csv"),
            caption="../report/view.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        tex=str(AT.tables / "{table}.tex"),
    log:
        log_of("table", "{table}"),
    wildcard_constraints:
        table=one_of(TABLES),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        plan=lambda w: PLAN,  # a function: braces in it are no wildcards
        code=lambda w: view_code(*experiment.tables()[w.table], "table"),
        caption=lambda w: rst(caption(STUDY, *experiment.tables()[w.table])),
    shell:
        f"vit-registers table {{wildcards.table}} --params {AT.params} 2> {{log}}"


rule figure:
    input:
        lambda w: rows_of(experiment.figures()[w.figure][1]) + arrays_of(experiment.figures()[w.figure][1]),
    output:
        png=report(
            str(AT.figures / "{figure}.png"),
            caption="../report/view.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf=str(AT.figures / "{figure}.pdf"),
    log:
        log_of("figure", "{figure}"),
    wildcard_constraints:
        figure=one_of(FIGURES),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        plan=lambda w: PLAN,  # a function: braces in it are no wildcards
        code=lambda w: view_code(*experiment.figures()[w.figure], "figure"),
        caption=lambda w: rst(caption(STUDY, *experiment.figures()[w.figure])),
    shell:
        f"vit-registers figure {{wildcards.figure}} --params {AT.params} 2> {{log}}"


PHASES["table"] = [str(AT.rows(measure)) for measure in MEASURES] + [str(AT.table), str(AT.summary)]
PHASES["tables"] = [str(AT.tables / f"{name}.csv") for name in TABLES]
PHASES["figures"] = [str(AT.figures / f"{name}.png") for name in FIGURES]
