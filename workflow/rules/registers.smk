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


rule neurons:
    input:
        lambda w: [f"results/registers/{dataset}/{w.model}.json" for dataset in steps.neurons(STUDY, w.model).datasets],
    output:
        "results/readouts/neurons/{model}.csv",
    log:
        "logs/neurons/{model}.log",
    benchmark:
        "logs/benchmarks/neurons/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=lambda w: cfg(steps.neurons, w.model),
        code=code("registers.neuron_overlap"),
    shell:
        "vit-registers neurons --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


PHASES["registers"] = [
    *per_detected("results/registers/{dataset}/{model}.json"),
    *per_detected("results/readouts/detection/{dataset}/{model}.csv"),
    *expand("results/readouts/neurons/{model}.csv", model=sorted({model for _, model in STUDY.pairs()})),
]
