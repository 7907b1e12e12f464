# One target per phase: what DVC's stages call (dvc.yaml).


for phase, outputs in PHASES.items():

    rule:
        name:
            f"phase_{phase}"
        input:
            outputs,
        localrule: True
