# The LaTeX report: its numbers, methods and results from the pipeline, its frame by people in report/report.tex.

# The package, as a path that is the same in every clone where it is inside of it.
PACKAGE = digest.ROOT.relative_to(Path.cwd()) if digest.ROOT.is_relative_to(Path.cwd()) else digest.ROOT


ON = [each for name, each in experiment.found().items() if name in STUDY.experiment_names]


rule report_text:
    input:
        str(AT.table),
        "report/references.bib",
        templates=[str(path) for path in PACKAGE.rglob("*.tex.j2")],
        models=PHASES["models"],
        data=PHASES["data"],
    output:
        [str(path) for path in AT.report_texts],
    log:
        log_of("report_text"),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=lambda w: canonical(configs.tracked(STUDY)),  # a function: braces in it are no wildcards
        code=digest.code("vit_registers.report.text:run", STUDY),
        told=[digest.code(f"{each.package}.told:told") for each in ON if (each.folder / "told.py").is_file()],
        captions=lambda w: [
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


# The page in which results are looked at: scenes of all experiments (report/explorer).
SCENES = steps.shown(STUDY, experiment.scenes())


rule explorer:
    input:
        lambda w: sorted({path for name in SCENES for path in scene_files(experiment.scenes()[name][1])}),
    output:
        page=str(AT.explorer),
        models=directory(str(AT.results / "explorer")),
    log:
        log_of("explorer"),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        plan=PLAN,
        cfg=canonical(STUDY.explorer.model_dump(mode="json")),
        code=[
            digest.code("vit_registers.report.explorer.build:run", STUDY.explorer),
            *(sha256(path) for path in sorted(Path(PACKAGE, "report/explorer/page").iterdir())),
            *(view_code(*experiment.scenes()[name], None) for name in SCENES),
        ],
        captions=[caption(STUDY, *experiment.scenes()[name]) for name in SCENES],
    shell:
        f"vit-registers explorer --params {AT.params} 2> {{log}}"


PHASES["explorer"] = [str(AT.explorer)]
PHASES["report_text"] = list(rules.report_text.output)
PHASES["report"] = [str(AT.report / "report.pdf")]
