# One rule for every step, all of this form: those that make data, models and features, and a measure for each
# experiment that is found in src/vit_registers/experiments.


for step in steps.steps().values():

    rule:
        name:
            step.name
        input:
            inputs_of(step),
        output:
            *outputs_of(step),
        log:
            log_of(step.name, *wildcards_of(step.axes).values()),
        wildcard_constraints:
            **constraints_of(step),
        priority: step.priority
        conda:
            "../envs/study.yaml"
        threads: step.resources(STUDY).threads
        resources:
            mem_mb=step.resources(STUDY).mem_mb,
            runtime=step.resources(STUDY).runtime,
            gpu=int(step.resources(STUDY).gpu and STUDY.device == "cuda"),
        params:
            cfg=config_of(step),
            code=code_of(step),
            command=command_of(step),
        shell:
            f"vit-registers {{params.command}} --params {AT.params} 2> {{log}}"

    if not step.temporary:
        PHASES.setdefault(step.phase, []).extend(jobs_of(step))
