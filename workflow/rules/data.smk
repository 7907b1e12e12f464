# Data sets to manifests.


rule prepare:
    input:
        source_files,
    output:
        manifest="data/prepared/{dataset}/manifest.parquet",
        card="data/prepared/{dataset}/dataset.json",
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cfg=lambda w: cfg(steps.prepare, w.dataset),
        code=code("data.prepare"),
    shell:
        "vit-registers prepare --dataset {wildcards.dataset} --cfg {params.cfg:q} 2> {log}"


PHASES["data"] = [f"data/prepared/{name}/dataset.json" for name in STUDY.datasets_used()]
