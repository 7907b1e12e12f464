# Views of the tidy table; nothing is computed here.

# needs.TABLES: which readouts each table shows. It is remade when one of these changes, and only then.


rule table:
    input:
        lambda w: expand("results/metrics/{readout}.csv", readout=needs.TABLES[w.table]),
    output:
        csv=report(
            "results/tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        tex="results/tables/{table}.tex",
    log:
        "logs/table/{table}.log",
    benchmark:
        "logs/benchmarks/table/{table}.tsv"
    wildcard_constraints:
        table=one_of(needs.TABLES),
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        cfg=cfg(steps.view),
        code=code("views.tables"),
    shell:
        "vit-registers table {wildcards.table} --cfg {params.cfg:q} {input} 2> {log}"


PHASES["tables"] = expand("results/tables/{table}.csv", table=needs.TABLES)
