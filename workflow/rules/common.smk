# What all rules share: checked params, the list of steps, each job's part of params, and one run per study at a time.
import contextlib
import fcntl
import os
import re
import shutil
import sys
import time
from pathlib import Path

# Jobs find vit-registers beside the Python that runs Snakemake, whether its environment is activated or not. Threads
# that wait for each other sleep, as spinning ones would take the cores of other jobs; freed memory is kept, as every
# batch needs the same large blocks again.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", "")]),
    OMP_WAIT_POLICY="passive",
    MALLOC_MMAP_MAX_="0",
    MALLOC_TRIM_THRESHOLD_=str(2**31 - 1),
)

try:
    from vit_registers import warm
    from vit_registers.core.doors import read_table
    from vit_registers.core.errors import InputError, one_line
    from vit_registers.core.files import canonical, sha256, write_text
    from vit_registers.core.prose import rst
    from vit_registers.extraction.store import Features
    from vit_registers.params import reading
    from vit_registers.pipeline import configs, digest, experiment, messages, provenance, steps
    from vit_registers.pipeline.paths import Paths
    from vit_registers.report.facts import caption
    from vit_registers.views.plan import plan
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing}; the project is not installed in {sys.executable}: run `make setup` and use .venv/bin")

TEX = shutil.which("latexmk") is not None
BRIEF = messages.install()


def refuse(message):
    """Stop before any job with one line on stderr and exit status 2; an exception would print Snakemake's frames."""
    sys.stdout.flush()
    print(f"error: {one_line(str(message))}", file=sys.stderr, flush=True)
    with contextlib.suppress(Exception):
        workflow.tear_down()  # temporary files of Snakemake, which has no time for them
    os._exit(2)


# Files that the config is read from: params.yaml, then overlays. A workflow that uses this one as a module hands its
# config over.
MODULE = workflow.modifier.parent_modifier is not None
OVERLAYS = [] if MODULE else [str(path) for path in workflow.overwrite_configfiles]
OWN = [] if MODULE else ["params.yaml"]
SOURCES = " + ".join([*OWN, *OVERLAYS] or map(str, workflow.configfiles)) or "config"


def checked_params():
    """params.yaml with overlays and --config on top, as our reader reads them, checked; of a module, its config.

    Snakemake reads the files as well, before this: it takes the last of two equal keys, and runs code of a file that
    says so. Here such a file is refused.
    """
    try:
        content = {}
        for path in [*OWN, *OVERLAYS]:
            content = reading.overlay(content, reading.read_yaml(path))
        content = reading.overlay(content, dict(workflow.config_settings.config))
        study = reading.parse(dict(config) if MODULE else content, SOURCES)
    except InputError as error:
        refuse(error)
    if not MODULE:
        config.update(content)
    return study


def refuse_braces():
    """Refuse files whose names Snakemake would take for patterns."""
    sources = {f"datasets.{name}": STUDY.datasets[name].tracked() for name in STUDY.datasets_used()}
    sources |= {f"models.{name}": STUDY.models[name].paths().values() for name in STUDY.models_used()}
    for key, paths in sources.items():
        for path in paths:
            if "{" in path or "}" in path:
                refuse(f"{SOURCES}: {key}: '{path}': Snakemake takes braces for wildcards; rename the file")


STUDY = checked_params()
refuse_braces()
AT = Paths(STUDY.folder)


# One run per study at a time. Snakemake locks the files that it makes, and leaves the locks behind when it is killed.
# A lock of the kernel, held from the planning of a run to its end, tells whether a run is at work.


def lock_of(study):
    os.makedirs(".snakemake", exist_ok=True)
    return open(f".snakemake/{study}.run.lock", "a+")


def held_by(lock):
    """Take a lock of a study; the process that holds it where that is another."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        lock.seek(0)
        return lock.read().strip() or "unknown"


def clear_stale_locks():
    """Remove Snakemake's locks where no run is at work in this folder."""
    for path in Path(".snakemake").glob("*.run.lock"):
        try:
            with open(path, "a+") as lock:
                if held_by(lock) is not None:
                    return
        except OSError:  # a folder that cannot be written: nobody can be at work there, and nothing is stale
            return
    for stale in Path(".snakemake/locks").glob("*"):
        stale.unlink(missing_ok=True)


HELD = []  # the lock of this run
WARM = []  # the process that jobs of this run are forked from
TOLD = []  # what is missing or damaged, which is said once


def looks():
    """Whether Snakemake only looks: a dry run, a summary, a graph. It does not say before inputs are asked for."""
    return workflow.executor_plugin is None or workflow.dryrun


def tell_missing():
    """Say which data and weights are not there, where they are had and where they go, and go on planning."""
    if not TOLD and workflow.is_main_process:
        TOLD.append(True)
        for line in reading.missing(STUDY):
            print(f"missing: {line}", file=sys.stderr, flush=True)
        tell_damaged()


def tell_damaged():
    """Say which features lack arrays: Snakemake follows the file beside them alone."""
    for dataset, model in STUDY.pairs():
        folders = {AT.extracted("baseline", dataset, model): [AT.baseline(dataset, model)]}
        folders[AT.extracted("ablated", dataset, model)] = [
            AT.ablated(dataset, model) / name for name in STUDY.conditions(dataset, model)[1:]
        ]
        for whole, conditions in folders.items():
            made = [folder for folder in conditions if (folder / "index.json").exists()]
            for folder in made if whole.exists() else []:
                try:
                    Features.open(folder)
                except InputError as error:
                    print(f"damaged: {error}", file=sys.stderr, flush=True)


def hold_study():
    """Keep the study for this run, and write the params that its jobs read.

    Called when inputs are first asked for: before that nobody knows whether jobs will be executed, and after that
    Snakemake reads files that another run may be replacing. Who executes jobs needs all data, who looks is told what
    is missing.
    """
    if looks():
        return tell_missing()
    if HELD or not workflow.is_main_process:
        return
    try:
        reading.check_paths(STUDY, SOURCES)
    except InputError as error:
        refuse(error)
    tell_damaged()
    lock, process = lock_of(AT.study), None
    for _ in range(20):  # a glance at the lock, by whoever plans a run now, is over at once
        process = held_by(lock)
        if process is None:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            write_text(AT.params, canonical(STUDY.model_dump(mode="json")) + "\n")
            HELD.append(lock)
            if workflow.local_exec:  # others start jobs on machines of their own
                WARM.append(warm.start())
            return
        time.sleep(0.1)
    refuse(f"another run (process {process}) of '{AT.study}' is at work in {os.getcwd()}; wait for it or stop it")


LOST = False  # whether nothing says what results were made from


def tell_lost():
    if LOST:
        print(
            f"warning: {AT.results}: Snakemake's records of what made it are gone (.snakemake/metadata), so that nothing "
            "tells which results are of other params or code; --forceall makes all of them again",
            file=sys.stderr,
            flush=True,
        )


digest.keep(Path(".snakemake/code.json"))
if workflow.is_main_process:
    clear_stale_locks()
    try:
        provenance.restore(AT)
    except (InputError, OSError) as error:
        refuse(f"{AT.results}: Snakemake's records cannot be put back ({error})")
    LOST = provenance.lost(AT)
    tell_lost()


# What a rule is made of, from the list of steps.


def wildcards_of(names):
    """Placeholders of wildcards by name."""
    return {name: f"{{{name}}}" for name in names}


def one_of(names):
    """A wildcard constraint that matches exactly these names, and nothing where there are none."""
    return "|".join(re.escape(name) for name in dict.fromkeys(names)) or "(?!)"


def constraints_of(step):
    """Wildcards of a step match the jobs that it has."""
    return {axis: one_of(job[axis] for job in step.jobs(STUDY)) for axis in step.axes}


def inputs_of(step):
    """Input function of a step. Folders have to be there; what is in them is followed through a file beside them."""

    def inputs(wildcards):
        hold_study()
        axes = {axis: wildcards[axis] for axis in step.axes}
        paths = step.inputs(STUDY, AT, **axes)
        if looks():  # plans are made without what is missing; it has been told
            made = (AT.data, AT.results)
            paths = [path for path in paths if path.exists() or any(path.is_relative_to(folder) for folder in made)]
        return [str(path) if path.suffix else ancient(str(path)) for path in paths]

    return inputs


def outputs_of(step):
    """Patterns of what a step writes."""
    axes = wildcards_of(step.axes)
    files = [str(path) for path in step.outputs(STUDY, AT, **axes)]
    files = [temp(path) for path in files] if step.temporary else files
    return files + [directory(str(path)) for path in step.folders(STUDY, AT, **axes)]


def config_of(step):
    """A job's own part of params as one canonical JSON string: what Snakemake compares to decide what is redone.

    What says how a job goes and not what it gives is left out.
    """
    return lambda wildcards: canonical(
        configs.tracked(step.config(STUDY, **{axis: wildcards[axis] for axis in step.axes}))
    )


def code_of(step):
    """Digest of the code that a job runs (pipeline/digest.py)."""
    return lambda wildcards: step.digest(step.config(STUDY, **{axis: wildcards[axis] for axis in step.axes}))


def jobs_of(step):
    """Files that all jobs of a step write."""
    return [str(path) for axes in step.jobs(STUDY) for path in step.outputs(STUDY, AT, **axes)]


def log_of(name, *axes):
    return str(Path("logs", AT.study, name, *axes)) + ".log"


def command_of(step):
    """The command of a job. (What a rule's shell says is only read when the job runs: by then the loop is over.)"""
    return lambda wildcards: " ".join(
        [step.name.replace("_", "-"), *(f"--{axis} {wildcards[axis]}" for axis in step.axes)]
    )


# What a view is made of.


def rows_of(view):
    return [str(path) for path in steps.row_files(STUDY, AT, view)]


def arrays_of(view):
    return [str(path) for path in steps.array_files(STUDY, AT, view)]


def scene_files(scene):
    return rows_of(scene) + arrays_of(scene)


def view_code(found, view, engine):
    """Digest of the code of one view, of the engine that writes it, and of the package's files that it shows."""
    code = [digest.code(found.function(view.draw))]
    code += [digest.code(f"vit_registers.views.engine:{engine}")] if engine else []
    code.append(f"{view.long} {view.stacked} {view.most}")
    return code + [sha256(digest.ROOT / name) for name in view.data]


# Outputs of each phase; every file of rules/ adds its own. DVC's stages are these phases (dvc.yaml).
PHASES = {}


def explain_success():
    made = [str(path) for path in (AT.tables, AT.figures, AT.report / "report.pdf") if path.exists()]
    if not LOST and workflow.is_main_process:
        provenance.record(AT)  # so that who deletes .snakemake, or copies the results, has them
    tell_lost()
    print(f"done: {', '.join(made)}", file=sys.stderr)
    counts = AT.tables / "claims_by_paper.csv"
    if counts.exists():
        verdicts = read_table(counts, "source").set_index("source").loc["all"]
        said = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in verdicts.items())
        print(f"published claims: {said} ({counts.with_name('claims.csv')})", file=sys.stderr)
    if not TEX:
        print(
            "no PDF: latexmk is not installed; apt-get install latexmk texlive-latex-recommended, then run again",
            file=sys.stderr,
        )


def explain_error(logs):
    """Repeat the steps' own error lines last, where a person looks first."""
    for path in logs:
        print(f"log of the run: {path}", file=sys.stderr)
    for line in BRIEF.last_words():
        print(line, file=sys.stderr)
