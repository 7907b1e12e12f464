# The LaTeX report: its numbers and methods text from the pipeline, its prose by people in report/report.tex.


rule report_text:
    input:
        "results/metrics/metrics.csv",
        models=PHASES["models"],
        data=PHASES["data"],
    output:
        numbers="results/report/numbers.tex",
        methods="results/report/methods.tex",
        versions="results/report/versions.tex",
    log:
        "logs/report_text.log",
    benchmark:
        "logs/benchmarks/report_text.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=cfg(steps.report),
        code=code("report.numbers"),
    shell:
        "vit-registers report-text --cfg {params.cfg:q} 2> {log}"


rule report:
    input:
        "report/report.tex",
        "report/errata.tex",
        "report/references.bib",
        "report/latexmkrc",
        rules.report_text.output,
        tables=expand("results/tables/{table}.tex", table=needs.TABLES),
        figures=expand("results/figures/{figure}.pdf", figure=needs.FIGURES),
    output:
        report("report/report.pdf", caption="../report/report.rst", category="Report"),
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("report.build"),
    shell:
        "vit-registers report-pdf 2> {log}"


PHASES["report_text"] = list(rules.report_text.output)
PHASES["report"] = ["report/report.pdf"]
