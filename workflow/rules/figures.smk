# Figures, in PDF for the report and PNG for the page.

# Which metrics each figure shows, and what else it draws from the readouts.
FIGURES = {
    "norms_by_layer": (["tokens"], []),
    "cls_attention_by_layer": (["tokens"], []),
    "norm_distributions": (["tokens", "detection"], per_pair("results/readouts/tokens/{dataset}/{model}.histogram.parquet")),
    "attention_maps": ([], per_pair("results/readouts/tokens/{dataset}/{model}.maps.npz")),
    "lost_steps": ([], per_pair("results/readouts/lost/{dataset}/{model}.steps.npz")),
    "register_count": (["probe", "lost"], []),
}


rule figure:
    input:
        metrics=lambda w: expand("results/metrics/{readout}.csv", readout=FIGURES[w.figure][0]),
        arrays=lambda w: FIGURES[w.figure][1],
    output:
        png=report(
            "results/figures/{figure}.png",
            caption="../report/{figure}.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf="results/figures/{figure}.pdf",
    log:
        "logs/figure/{figure}.log",
    benchmark:
        "logs/benchmarks/figure/{figure}.tsv"
    wildcard_constraints:
        figure=one_of(FIGURES),
    params:
        cfg=cfg(steps.view),
        code=code("report.figures"),
    threads: 1
    resources:
        mem_mb=1000,
    shell:
        "vit-registers figure {wildcards.figure} --cfg {params.cfg:q} {input.metrics} 2> {log}"


PHASES["figures"] = expand("results/figures/{figure}.png", figure=FIGURES)
