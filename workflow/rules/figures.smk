# Figures, in PDF for the report and PNG for the page.

# needs.FIGURES: which readouts each figure shows, and which files of single images it draws.


rule figure:
    input:
        metrics=lambda w: expand("results/metrics/{readout}.csv", readout=needs.FIGURES[w.figure][0]),
        arrays=lambda w: [path for file in needs.FIGURES[w.figure][1] for path in per_view(f"results/readouts/{file}")],
    output:
        png=report(
            "results/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf="results/figures/{figure}.pdf",
    log:
        "logs/figure/{figure}.log",
    benchmark:
        "logs/benchmarks/figure/{figure}.tsv"
    wildcard_constraints:
        figure=one_of(needs.FIGURES),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=cfg(steps.view),
        code=code("views.figures"),
    shell:
        "vit-registers figure {wildcards.figure} --cfg {params.cfg:q} {input.metrics} 2> {log}"


PHASES["figures"] = expand("results/figures/{figure}.png", figure=needs.FIGURES)
