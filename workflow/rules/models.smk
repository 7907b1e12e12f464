# Models by name, trained here, or made from trained ones; downstream, all are a model card.


rule fetch:
    input:
        lambda w: getattr(STUDY.models[w.model], "path", []),
    output:
        "results/models/{model}/model.json",
    log:
        "logs/fetch/{model}.log",
    benchmark:
        "logs/benchmarks/fetch/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_of("timm", "openclip", "file")),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        cfg=lambda w: cfg(steps.model, w.model),
        code=code("models.fetch"),
    shell:
        "vit-registers fetch --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


# All cores: two trainings at once are each more than five times slower. Priorities: what most waits for goes first.
rule train:
    input:
        lambda w: f"data/prepared/{STUDY.models[w.model].dataset}/dataset.json",
    output:
        "results/models/{model}/model.json",
        "results/models/{model}/model.safetensors",
        "results/models/{model}/training.csv",
        "results/models/{model}/norms.csv",
        "results/models/{model}/time.json",
        "results/models/{model}/attention.npz",
    log:
        "logs/train/{model}.log",
    benchmark:
        "logs/benchmarks/train/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_of("trained")),
    priority: 3
    conda:
        "../envs/study.yaml"
    threads: workflow.cores or 8
    resources:
        mem_mb=4000,
        processes=STUDY.processes,  # no param: how many there are changes no result
    params:
        cfg=lambda w: cfg(steps.model, w.model),
        code=code("training.loop"),
    shell:
        "vit-registers train --model {wildcards.model} --processes {resources.processes} --cfg {params.cfg:q} 2> {log}"


rule plant:
    input:
        lambda w: f"data/prepared/{STUDY.training_dataset(w.model)}/dataset.json",
        lambda w: f"results/models/{STUDY.models[w.model].base}/model.json",
    output:
        "results/models/{model}/model.json",
        "results/models/{model}/model.safetensors",
    log:
        "logs/plant/{model}.log",
    benchmark:
        "logs/benchmarks/plant/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_of("tagged", "planted")),
    priority: 2
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        cfg=lambda w: cfg(steps.model, w.model),
        code=code("planted.plant"),
    shell:
        "vit-registers plant --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


# Weights are copied only where the base has a file of its own: the card says which, and is all that others wait for.
rule resize:
    input:
        lambda w: f"results/models/{STUDY.models[w.model].base}/model.json",
    output:
        "results/models/{model}/model.json",
    log:
        "logs/resize/{model}.log",
    benchmark:
        "logs/benchmarks/resize/{model}.tsv"
    wildcard_constraints:
        model=one_of(models_of("resized")),
    priority: 2
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        cfg=lambda w: cfg(steps.model, w.model),
        code=code("models.resize"),
    shell:
        "vit-registers resize --model {wildcards.model} --cfg {params.cfg:q} 2> {log}"


PHASES["models"] = [f"results/models/{name}/model.json" for name in STUDY.models_used()]
