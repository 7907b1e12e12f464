# The LaTeX report: its numbers, methods and results from the pipeline, its frame by people in report/report.tex.

# The package, as a path that is the same in every clone where it is inside of it.
PACKAGE = digest.ROOT.relative_to(Path.cwd()) if digest.ROOT.is_relative_to(Path.cwd()) else digest.ROOT


rule report_text:
    input:
        str(AT.table),
        "report/references.bib",
        templates=[str(path) for path in PACKAGE.rglob("*.tex.j2")],
        models=PHASES["models"],
        data=PHASES["data"],
    output:
        [str(AT.report / f"{name}.tex") for name in ("numbers", "methods", "results", "versions")],
    log:
        log_of("report_text"),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=canonical(configs.tracked(STUDY)),
        code=digest.code("vit_registers.report.text:run", STUDY),
        captions=[
            caption(STUDY, *each[name])
            for each in (experiment.tables(), experiment.figures())
            for name in each
            if name in TABLES + FIGURES
        ],
    shell:
        f"vit-registers report-text --params {AT.params} 2> {{log}}"


rule report:
    input:
        "report/report.tex",
        "report/errata.tex",
        "report/sinks.tex",
        "report/references.bib",
        "report/latexmkrc",
        rules.report_text.output,
        tables=[str(AT.tables / f"{name}.tex") for name in TABLES],
        figures=[str(AT.figures / f"{name}.pdf") for name in FIGURES],
    output:
        report(str(AT.report / "report.pdf"), caption="../report/report.rst", category="Report"),
    log:
        log_of("report"),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=digest.code("vit_registers.report.build:run"),
    shell:
        f"vit-registers report-pdf --params {AT.params} 2> {{log}}"


PHASES["report_text"] = list(rules.report_text.output)
PHASES["report"] = [str(AT.report / "report.pdf")]
