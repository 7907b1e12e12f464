# What all rules share: checked params, their slices, code digests, and the lock of the folder.
import fcntl
import os
import shutil
import sys
import time
from pathlib import Path

# Jobs find vit-registers beside the Python that runs Snakemake, whether its environment is activated or not.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", "")]))

try:
    from vit_registers.pipeline import digest as closure
    from vit_registers.pipeline import slices as steps
    from vit_registers import params
    from vit_registers.core.errors import InputError
    from vit_registers.core.files import canonical
    from vit_registers.views import needs
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing}; the project is not installed in {sys.executable}: run `make setup` and use .venv/bin")

TEX = shutil.which("latexmk") is not None


def refuse(message):
    """Stop before any job with one line on stderr and exit status 2; an exception would print Snakemake's frames."""
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def checked_params():
    """The config as validated params; files named in it must be there."""
    sources = " + ".join(["params.yaml", *(str(p) for p in workflow.overwrite_configfiles)])
    try:
        params.read_yaml("params.yaml")  # Snakemake's reader takes the last of two equal keys; ours refuses
        study = params.parse(config, sources)
        params.check_paths(study, sources)
        return study
    except InputError as error:
        refuse(error)


def hold_folder():
    """Keep this folder for one run; a stale lock of a killed run is cleared because nobody holds the kernel's lock."""
    looks_only = {
        "-n",
        "--dry-run",
        "--dryrun",
        "--lint",
        "--report",
        "--dag",
        "--rulegraph",
        "--filegraph",
        "--summary",
        "--list",
        "-l",
        "--unlock",
    }
    if not workflow.is_main_process or looks_only & set(sys.argv):
        return None
    os.makedirs(".snakemake/locks", exist_ok=True)
    lock = open(".snakemake/run.lock", "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        refuse(
            f"another run (process {lock.read().strip() or 'unknown'}) is at work in {os.getcwd()}; wait for it or stop it"
        )
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    for stale in Path(".snakemake/locks").iterdir():
        stale.unlink()
    return lock


STUDY = checked_params()
FOLDER = hold_folder()
STARTED = time.time()


def cfg(step, *names, **options):
    """A job's own slice of params as one canonical JSON string: what Snakemake compares and what the step gets."""
    return canonical(step(STUDY, *names, **options).model_dump(mode="json"))


def code(module):
    """Digest of the code that a step runs (closure.py)."""
    return closure.code(f"vit_registers.{module}")


def one_of(names):
    """A wildcard constraint that matches exactly these names, and nothing where there are none."""
    return "|".join(names) or "(?!)"


def models_of(*kinds):
    return [name for name in STUDY.models if STUDY.models[name].kind in kinds]


def per_pair(pattern):
    """The pattern for every (data set, model) of the study."""
    return [pattern.format(dataset=dataset, model=model) for dataset, model in STUDY.pairs()]


def per_view(pattern):
    """The pattern for every (data set, model) of the study; for every trained model where it names no data set."""
    trained = [name for name in STUDY.models_used() if name in models_of("trained")]
    return per_pair(pattern) if "{dataset}" in pattern else [pattern.format(model=model) for model in trained]


def per_detected(pattern):
    """The pattern for every (data set, model) on which register neurons are looked for."""
    return [pattern.format(dataset=dataset, model=model) for dataset, model in STUDY.detected_pairs()]


def models_on(wildcards):
    """Models that the study runs on the data set of the wildcards."""
    return [model for dataset, model in STUDY.pairs() if dataset == wildcards.dataset]


def source_files(wildcards):
    """A CSV manifest is an input; folders are not (Snakemake cannot checksum them): --forcerun prepare after a change."""
    source = STUDY.datasets[wildcards.dataset]
    return source.csv if source.kind == "csv" else []


PASS_MB = STUDY.extraction.memory_mb + 2000  # what a pass may take, and the libraries it runs in


def calibration_of(wildcards):
    """Moments, where an intervention of the pair replaces tokens by them."""
    needed = steps.extract(STUDY, wildcards.dataset, wildcards.model, ablated=True).calibrated
    return f"results/features/ablated/{wildcards.dataset}/{wildcards.model}.moments.safetensors" if needed else []


wildcard_constraints:
    dataset=one_of(STUDY.datasets),
    model=one_of(STUDY.models),


# Outputs of each phase; every file of rules/ adds its own. DVC's stages are these phases (dvc.yaml).
PHASES = {}


def explain_success():
    made = [path for path in ("results/tables", "results/figures", "report/report.pdf") if os.path.exists(path)]
    print(f"done: {', '.join(made)}", file=sys.stderr)
    if not TEX:
        print(
            "no PDF: latexmk is not installed; apt-get install latexmk texlive-latex-recommended, then run again",
            file=sys.stderr,
        )


def explain_error():
    """Repeat the steps' own error lines last, where a person looks first."""
    for path in sorted(Path("logs").rglob("*.log")):
        if path.stat().st_mtime >= STARTED:
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("error: "):
                    print(line, file=sys.stderr)
