# What is measured on cached features. No readout runs a backbone.

FEATURES = [
    "data/prepared/{dataset}/dataset.json",
    "results/features/baseline/{dataset}/{model}/index.json",
    "results/features/ablated/{dataset}/{model}/ablated.json",
]


rule tokens:
    input:
        FEATURES,
        "results/registers/{dataset}/{model}.json",
    output:
        "results/readouts/tokens/{dataset}/{model}.csv",
        "results/readouts/tokens/{dataset}/{model}.histogram.parquet",
        "results/readouts/tokens/{dataset}/{model}.maps.npz",
    log:
        "logs/tokens/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/tokens/{dataset}/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cfg=lambda w: cfg(steps.tokens, w.dataset, w.model),
        code=code("experiments.token_statistics.measure"),
    shell:
        "vit-registers tokens --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule probe:
    input:
        FEATURES,
    output:
        "results/readouts/probe/{dataset}/{model}.csv",
        "results/readouts/probe/{dataset}/{model}.images.parquet",
    log:
        "logs/probe/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/probe/{dataset}/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cfg=lambda w: cfg(steps.probe, w.dataset, w.model),
        code=code("experiments.classification.measure"),
    shell:
        "vit-registers probe --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule dense:
    input:
        FEATURES,
    output:
        "results/readouts/dense/{dataset}/{model}.csv",
        "results/readouts/dense/{dataset}/{model}.images.parquet",
    log:
        "logs/dense/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/dense/{dataset}/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: cfg(steps.dense, w.dataset, w.model),
        code=code("experiments.dense_prediction.measure"),
    shell:
        "vit-registers dense --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


# Beside the probes: a study without a text tower has none, and DVC wants every folder that it versions to be there.
rule zero_shot:
    input:
        FEATURES,
        "results/models/{model}/model.json",
    output:
        "results/readouts/probe/{dataset}/{model}.zero_shot.csv",
        "results/readouts/probe/{dataset}/{model}.zero_shot.images.parquet",
    log:
        "logs/zero_shot/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/zero_shot/{dataset}/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_of("openclip")),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: cfg(steps.zero_shot, w.dataset, w.model),
        code=code("experiments.zero_shot.measure"),
    shell:
        "vit-registers zero-shot --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule information:
    input:
        "data/prepared/{dataset}/dataset.json",
        "results/features/baseline/{dataset}/{model}/index.json",
        "results/registers/{dataset}/{model}.json",
    output:
        "results/readouts/information/{dataset}/{model}.csv",
    log:
        "logs/information/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/information/{dataset}/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: cfg(steps.information, w.dataset, w.model),
        code=code("experiments.single_tokens.measure"),
    shell:
        "vit-registers information --dataset {wildcards.dataset} --model {wildcards.model}"
        " --cfg {params.cfg:q} 2> {log}"


rule lost:
    input:
        FEATURES,
    output:
        "results/readouts/lost/{dataset}/{model}.csv",
        "results/readouts/lost/{dataset}/{model}.images.parquet",
        "results/readouts/lost/{dataset}/{model}.boxes.parquet",
        "results/readouts/lost/{dataset}/{model}.steps.npz",
    log:
        "logs/lost/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/lost/{dataset}/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cfg=lambda w: cfg(steps.lost, w.dataset, w.model),
        code=code("experiments.object_discovery.measure"),
    shell:
        "vit-registers lost --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


# What a sweep reads of an image is too much to keep, so it has a pass of its own.
rule sweep:
    input:
        "data/prepared/{dataset}/dataset.json",
        "results/models/{model}/model.json",
    output:
        "results/readouts/sweep/{dataset}/{model}.csv",
    log:
        "logs/sweep/{dataset}/{model}.log",
    benchmark:
        "logs/benchmarks/sweep/{dataset}/{model}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=PASS_MB,
    params:
        cfg=lambda w: cfg(steps.sweep, w.dataset, w.model),
        code=code("experiments.object_discovery.sweep"),
    shell:
        "vit-registers sweep --dataset {wildcards.dataset} --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule training:
    input:
        "results/models/{model}/model.json",
        "results/models/{model}/training.csv",
        "results/models/{model}/norms.csv",
        "results/models/{model}/attention.npz",
    output:
        "results/readouts/training/{model}.csv",
        "results/readouts/training/{model}.maps.npz",
    log:
        "logs/training/{model}.log",
    benchmark:
        "logs/benchmarks/training/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_of("trained")),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=lambda w: cfg(steps.training, w.model),
        code=code("experiments.emergence.measure"),
    shell:
        "vit-registers training --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


rule cost:
    output:
        "results/readouts/cost.csv",
    log:
        "logs/cost.log",
    benchmark:
        "logs/benchmarks/cost.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cfg=cfg(steps.cost),
        code=code("experiments.register_cost.measure"),
    shell:
        "vit-registers cost --cfg {params.cfg:q} 2> {log}"


rule energy:
    input:
        expand("results/models/{model}/{file}", model=steps.energy(STUDY).models, file=["model.json", "time.json"]),
    output:
        "results/readouts/energy.csv",
    log:
        "logs/energy.log",
    benchmark:
        "logs/benchmarks/energy.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=cfg(steps.energy),
        code=code("experiments.training_energy.measure"),
    shell:
        "vit-registers energy --cfg {params.cfg:q} 2> {log}"


rule compare:
    input:
        lambda w: expand("results/readouts/probe/{{dataset}}/{model}.images.parquet", model=models_on(w)),
        lambda w: expand("results/readouts/lost/{{dataset}}/{model}.images.parquet", model=models_on(w)),
        lambda w: expand("results/readouts/dense/{{dataset}}/{model}.images.parquet", model=models_on(w)),
        lambda w: [
            f"results/readouts/probe/{dataset}/{model}.zero_shot.images.parquet"
            for dataset, model in STUDY.text_pairs()
            if dataset == w.dataset
        ],
    output:
        "results/readouts/comparisons/{dataset}.csv",
    log:
        "logs/compare/{dataset}.log",
    benchmark:
        "logs/benchmarks/compare/{dataset}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        cfg=lambda w: cfg(steps.compare, w.dataset),
        code=code("experiments.comparisons.measure"),
    shell:
        "vit-registers compare --dataset {wildcards.dataset} --cfg {params.cfg:q} 2> {log}"


ZERO_SHOT = [f"results/readouts/probe/{dataset}/{model}.zero_shot.csv" for dataset, model in STUDY.text_pairs()]
PHASES["readouts"] = [
    *per_pair("results/readouts/tokens/{dataset}/{model}.csv"),
    *per_pair("results/readouts/probe/{dataset}/{model}.csv"),
    *per_pair("results/readouts/information/{dataset}/{model}.csv"),
    *per_pair("results/readouts/lost/{dataset}/{model}.csv"),
    *per_pair("results/readouts/dense/{dataset}/{model}.csv"),
    *ZERO_SHOT,
]
PHASES["sweep"] = per_pair("results/readouts/sweep/{dataset}/{model}.csv") if STUDY.lost_sweep else []
PHASES["training"] = [
    f"results/readouts/training/{name}.csv" for name in STUDY.models_used() if STUDY.models[name].kind == "trained"
]
PHASES["cost"] = ["results/readouts/cost.csv"]
PHASES["energy"] = ["results/readouts/energy.csv"]
PHASES["comparisons"] = [f"results/readouts/comparisons/{name}.csv" for name in {d: 0 for d, _ in STUDY.pairs()}]
