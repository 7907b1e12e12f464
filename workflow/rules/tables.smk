# Views of the tidy table; nothing is computed here.

# Which readouts each table shows: it is remade when one of these changes, and only then.
TABLES = {
    "models": ["detection", "probe", "lost"],
    "detection": ["detection"],
    "test_time_registers": ["detection", "tokens", "probe", "lost", "comparisons"],
    "natural_models": ["detection", "tokens", "probe", "lost"],
    "register_count": ["probe", "lost"],
    "probe": ["probe"],
    "lost_corloc": ["lost"],
    "comparisons": ["comparisons"],
}


rule table:
    input:
        lambda w: expand("results/metrics/{readout}.csv", readout=TABLES[w.table]),
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
        table=one_of(TABLES),
    params:
        cfg=cfg(steps.view),
        code=code("report.tables"),
    threads: 1
    resources:
        mem_mb=1000,
    shell:
        "vit-registers table {wildcards.table} --cfg {params.cfg:q} {input} 2> {log}"


PHASES["tables"] = expand("results/tables/{table}.csv", table=TABLES)
