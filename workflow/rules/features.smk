# One forward pass per condition, to cached tensors: the baseline first, then, with the registers that were detected,
# every named intervention of the pair in one process. Some need calibration: moments of the model as it is.


rule extract:
    input:
        "data/prepared/{dataset}/dataset.json",
        "results/models/{model}/model.json",
    output:
        "results/features/baseline/{dataset}/{model}/index.json",
    log:
        "logs/extract/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/extract/{dataset}/{model}.tsv"
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=PASS_MB,
    params:
        cfg=lambda w: cfg(steps.extract, w.dataset, w.model, ablated=False),
        code=code("extraction.extract"),
    shell:
        "vit-registers extract --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule calibrate:
    input:
        "data/prepared/{dataset}/dataset.json",
        "results/models/{model}/model.json",
    output:
        "results/features/ablated/{dataset}/{model}.moments.safetensors",
    log:
        "logs/calibrate/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/calibrate/{dataset}/{model}.tsv"
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=PASS_MB,
    params:
        cfg=lambda w: cfg(steps.calibrate, w.dataset, w.model),
        code=code("extraction.calibrate"),
    shell:
        "vit-registers calibrate --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule ablate:
    input:
        "data/prepared/{dataset}/dataset.json",
        "results/models/{model}/model.json",
        "results/registers/{dataset}/{model}.json",
        calibration_of,
    output:
        "results/features/ablated/{dataset}/{model}/ablated.json",
    log:
        "logs/ablate/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/ablate/{dataset}/{model}.tsv"
    priority: 1
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=PASS_MB,
    params:
        cfg=lambda w: cfg(steps.extract, w.dataset, w.model, ablated=True),
        code=code("extraction.extract"),
    shell:
        "vit-registers extract --ablated --dataset {wildcards.dataset} --model {wildcards.model}"
        " --cfg {params.cfg:q} 2> {log}"


PHASES["features"] = per_detected("results/features/baseline/{dataset}/{model}/index.json")
PHASES["ablation"] = per_pair("results/features/ablated/{dataset}/{model}/ablated.json")
