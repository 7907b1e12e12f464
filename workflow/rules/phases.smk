# One target per phase: what DVC's stages call (dvc.yaml).


for phase, outputs in PHASES.items():

    rule:
        name:
            f"phase_{phase}"
        input:
            outputs,
        localrule: True


rule provenance:
    input:
        PHASES["measures"],
        PHASES["table"],
        PHASES["tables"],
        PHASES["figures"],
        PHASES["explorer"],
        PHASES["report"] if TEX else PHASES["report_text"],
    log:
        log_of("provenance"),
    localrule: True
    run:
        provenance.record(AT)
