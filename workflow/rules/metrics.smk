# The tidy table: one per readout, so that a table or figure depends only on what it shows, and one of all.

READOUTS = {
    "detection": per_detected("results/readouts/detection/{dataset}/{model}.csv"),
    "neurons": expand("results/readouts/neurons/{model}.csv", model=sorted({model for _, model in STUDY.pairs()})),
    "tokens": per_pair("results/readouts/tokens/{dataset}/{model}.csv"),
    "information": per_pair("results/readouts/information/{dataset}/{model}.csv"),
    "probe": per_pair("results/readouts/probe/{dataset}/{model}.csv"),
    "lost": per_pair("results/readouts/lost/{dataset}/{model}.csv"),
    "dense": per_pair("results/readouts/dense/{dataset}/{model}.csv"),
    "zero_shot": ZERO_SHOT,
    "sweep": PHASES["sweep"],
    "training": PHASES["training"],
    "cost": PHASES["cost"],
    "energy": PHASES["energy"],
    "comparisons": PHASES["comparisons"],
}


rule collect:
    input:
        lambda w: READOUTS[w.readout],
    output:
        "results/metrics/{readout}.csv",
    log:
        "logs/collect/{readout}.log",
    benchmark:
        "logs/benchmarks/collect/{readout}.tsv"
    wildcard_constraints:
        readout=one_of(READOUTS),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("experiments.collect"),
    shell:
        "vit-registers collect {input} --out {output} 2> {log}"


rule summarise:
    input:
        expand("results/metrics/{readout}.csv", readout=READOUTS),
    output:
        table="results/metrics/metrics.csv",
        summary="results/metrics/summary.json",
    log:
        "logs/summarise.log",
    benchmark:
        "logs/benchmarks/summarise.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("experiments.collect"),
    shell:
        "vit-registers collect {input} --out {output.table} --summary {output.summary} 2> {log}"


PHASES["metrics"] = [
    *expand("results/metrics/{readout}.csv", readout=READOUTS),
    "results/metrics/metrics.csv",
    "results/metrics/summary.json",
]
