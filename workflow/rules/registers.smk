# Artifact tokens and the register neurons behind them.


rule detect:
    input:
        "data/prepared/{dataset}/dataset.json",
        "results/models/{model}/model.json",
        "results/features/baseline/{dataset}/{model}/index.json",
    output:
        "results/registers/{dataset}/{model}.json",
        "results/registers/{dataset}/{model}.neurons.csv",
        "results/readouts/detection/{dataset}/{model}.csv",
    log:
        "logs/detect/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/detect/{dataset}/{model}.tsv"
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=PASS_MB,
    params:
        cfg=lambda w: cfg(steps.detect, w.dataset, w.model),
        code=code("registers.detect"),
    shell:
        "vit-registers detect --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


PHASES["registers"] = [
    *per_pair("results/registers/{dataset}/{model}.json"),
    *per_pair("results/readouts/detection/{dataset}/{model}.csv"),
]
