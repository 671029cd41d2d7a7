#!/usr/bin/env python3
"""Streaming benchmark: Eddyline beside the old design's Flink jobs, expert Flink jobs and a hand-written floor.

    scripts/bench-streaming/run.py                        # everything; about an hour on two idle cores
    scripts/bench-streaming/run.py --only eddyline,floor  # minutes
    scripts/bench-streaming/run.py --events 1000000 --runs 1

All read the same CSV log from disk (Zipf users and items, 48 h, up to 5 s of disorder). Candidates run one after the
other, round by round, so that a busy machine disturbs all alike; compare CPU, medians and ratios. It needs Python 3.10,
cargo, a JDK 17 and pip's package index, from which it takes Flink's jars by name; everything that it makes goes to
`target/bench-streaming/`. Results are checked before they are printed: Eddyline's digests must equal the floor's, and so must
the popular lists of every Flink job.

What is measured: whole processes, start and end included. Flink's need seconds to start a JVM and a cluster, which a
long-lived deployment does once, so beside them stands what its job alone took: from the opening of the first file to the
end. Flink's sinks discard their rows; Eddyline and the floor digest each.
"""

import argparse
import filecmp
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLINK = "apache-flink-libraries==2.3.0"
USERS, ITEMS, HOURS, DISORDER_S, SEED = 500_000, 200_000, 48, 5, 1
JOBS = ["popular", "recent", "both"]

# Eddyline's invocation, and where its report has the digests: the only place that knows.
EDDYLINE_JOBS = {
    "popular": ["--only", "popular"],
    "recent": ["--only", "recent"],
    "both": ["--only", "popular,recent"],
    "both, recommend": [],
    "popular, arrangement": ["--only", "popular", "--set", "popular.arrange=true"],
    "both, arrangements": ["--only", "popular,recent", "--set", "popular.arrange=true", "--set", "recent.arrange=true"],
}
# What outputs and a model add, on a log of 1 million generated events with 20,000 items; OUT is a fresh directory.
OUTPUT_JOBS = {
    "all": [],
    "all, canonical files": ["--out", "OUT/files"],
    "all, embedded store": ["--store", "OUT/store.db"],
    "all, model of 20,000 items": ["--model-dir", "MODEL"],
}


def eddyline_command(binary, job, workers, log):
    return [str(binary), "replay", str(log), "-w", str(workers), "--json", *EDDYLINE_JOBS[job]]


def eddyline_digests(report):
    """{"popular": {"rows": int, "sum": hex}, …} of the outputs that the run had."""
    digests = report["replay"]["digests"]
    return {name: digests[name] for name in ("popular", "recent") if digests[name]["rows"]}


@dataclass
class Sample:
    wall_s: float
    cpu_s: float
    rss_mib: float
    # Of the job alone, where the program tells: without the start of a JVM and a cluster.
    job_wall_s: float | None = None
    job_cpu_s: float | None = None


@dataclass
class Candidate:
    """One row of the table."""

    name: str
    job: str
    events: int
    command: list
    runs: int
    # Takes the program's parsed report; returns an error or None.
    check: Callable = lambda report: None
    # Whether the report, its last line, has the times of the job alone.
    self_timed: bool = False
    # Done before each run, and not timed.
    prepare: Callable = lambda: None
    samples: list = field(default_factory=list)
    failure: str = ""


def main():
    arguments = parse_arguments()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    floor = build(HERE / "floor", work / "floor-target", "floor")
    log, old_log, halves = make_logs(floor, work, arguments)
    expected = run_floor(floor, "both", log, work / "floor.lists")
    old_lists = work / "floor-old.lists"
    run_floor(floor, "both", old_log, old_lists)
    groups = {
        "floor": lambda: floor_candidates(floor, log, arguments),
        "eddyline": lambda: eddyline_candidates(arguments, log, expected),
        "expert": lambda: expert_candidates(work, log, halves, arguments),
        "old": lambda: old_candidates(work, old_log, old_lists, arguments),
        "outputs": lambda: output_candidates(work, arguments),
    }
    candidates = [candidate for name in arguments.only for candidate in groups[name]()]
    candidates = [candidate for candidate in candidates if arguments.jobs is None or candidate.job in arguments.jobs]
    for round_number in range(max(candidate.runs for candidate in candidates)):
        for candidate in candidates:
            if round_number < candidate.runs and not candidate.failure:
                measure(candidate)
    print_table(candidates)
    save(candidates, work / "results.json")
    sys.exit(1 if any(candidate.failure for candidate in candidates) else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--old-events", type=int, default=200_000, help="events for the old design's slow jobs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--old-runs", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=["floor", "eddyline", "expert", "old", "outputs"])
    parser.add_argument("--jobs", type=lambda text: text.split(";"), help="only these, such as 'recent;both'")
    parser.add_argument("--eddyline", type=Path, help="a binary to measure instead of building one")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "bench-streaming")
    return parser.parse_args()


def build(crate, target, binary):
    subprocess.run(["cargo", "build", "--release", "--locked", "--target-dir", target], cwd=crate, check=True)
    return target / "release" / binary


def make_logs(floor, work, arguments):
    """The log, its head for the old jobs, and its rows dealt out to two files for two readers."""
    log = work / f"events-{arguments.events}.csv"
    halves = [work / f"events-{arguments.events}.{half}.csv" for half in (0, 1)]
    if not all(path.exists() for path in [log, *halves]):
        numbers = [arguments.events, USERS, ITEMS, HOURS, DISORDER_S, SEED]
        partial = log.with_suffix(".partial")
        subprocess.run([floor, "generate", partial, *map(str, numbers)], check=True)
        partial.rename(log)
        subprocess.run([floor, "split", log, *halves], check=True)
    arguments.old_events = min(arguments.old_events, arguments.events)
    old_log = work / f"events-{arguments.events}.head.csv"
    with log.open("rb") as rows, old_log.open("wb") as out:
        for _ in range(arguments.old_events):
            out.write(rows.readline())
    return log, old_log, halves


def run_floor(floor, job, log, lists):
    command = [floor, "run", job, log, str(USERS), str(ITEMS), lists]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def floor_candidates(floor, log, arguments):
    for job in ["parse", *JOBS]:
        command = [floor, "run", job, log, str(USERS), str(ITEMS)]
        yield Candidate("floor, one thread", job, arguments.events, command, arguments.runs)


def eddyline_candidates(arguments, log, expected):
    binary = arguments.eddyline or build(ROOT, ROOT / "target", "eddyline")

    def check(report):
        for output, digest in eddyline_digests(report).items():
            if digest is not None and digest != expected[output]:
                return f"its {output} digest {digest} is not the floor's {expected[output]}"
        return None

    for job in EDDYLINE_JOBS:
        for workers in (1, 2):
            command = eddyline_command(binary, job, workers, log)
            yield Candidate(f"Eddyline -w {workers}", job, arguments.events, command, arguments.runs, check)


def output_candidates(work, arguments):
    binary = arguments.eddyline or build(ROOT, ROOT / "target", "eddyline")
    log, model, out = work / "generated.csv", work / "generated-model", work / "out"
    if not log.exists():
        partial = work / "generated.partial"
        sizes = ["--events", "1M", "--items", "20k", "--users", "50k", "--late", "0.01"]
        subprocess.run([binary, "generate", partial, *sizes, "--model-dir", model], check=True)
        partial.rename(log)
    for job, flags in OUTPUT_JOBS.items():
        for workers in (1, 2):
            flags_now = [flag.replace("OUT", str(out)).replace("MODEL", str(model)) for flag in flags]
            command = [str(binary), "replay", str(log), "-w", str(workers), "--json", *flags_now]
            fresh = lambda: (shutil.rmtree(out, ignore_errors=True), out.mkdir())
            yield Candidate(f"Eddyline -w {workers}", job, 1_000_000, command, arguments.runs, prepare=fresh)


def java(work):
    """The start of a command that runs a job; downloads Flink and compiles the jobs the first time."""
    jars = work / "flink-jars"
    if not jars.exists():
        download = work / "wheel"
        shutil.rmtree(download, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", download, FLINK]
        subprocess.run(pip, check=True)
        partial = work / "flink-jars.partial"
        partial.mkdir(exist_ok=True)
        with zipfile.ZipFile(next(download.glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                jar = Path(name).name
                if jar.endswith(".jar") and jar.startswith(("flink-dist", "flink-connector-files", "log4j")):
                    (partial / jar).write_bytes(wheel.read(name))
        partial.rename(jars)
    classes = work / "flink-classes"
    class_path = os.pathsep.join([str(classes), *map(str, sorted(jars.glob("*.jar")))])
    sources = sorted((HERE / "flink" / "src").rglob("*.java"))
    subprocess.run(["javac", "-d", classes, "-cp", class_path, *sources], check=True)
    opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util")]
    logging = f"-Dlog4j.configurationFile={HERE / 'flink' / 'log4j2.properties'}"
    return ["java", "-Xmx8g", "-XX:+UseG1GC", *opens, logging, "-cp", class_path, "bench.Main"]


def lists_check(job, lists, wanted):
    """Compares the popular lists that a Flink job wrote with the floor's."""

    def check(_report):
        # Not read as a whole: Linux counts this process's peak memory into that of the next one that it starts.
        if "recent" not in job and not filecmp.cmp(lists, wanted, shallow=False):
            return f"its popular lists in {lists} are not those in {wanted}"
        return None

    return check


def expert_candidates(work, log, halves, arguments):
    start = java(work)
    for job in JOBS:
        for slots, files in ((1, [log]), (2, halves)):
            lists = work / f"expert-{job}-{slots}.lists"
            command = [*start, job, str(slots), lists, *files]
            check = lists_check(job, lists, work / "floor.lists")
            name = f"Flink expert, {slots} slot{'s' if slots > 1 else ''}"
            yield Candidate(name, job, arguments.events, command, arguments.runs, check, self_timed=True)


def old_candidates(work, old_log, old_lists, arguments):
    start = java(work)
    for job in ("popular", "recent"):
        lists = work / f"old-{job}.lists"
        command = [*start, f"old-{job}", "1", lists, old_log]
        check = lists_check(job, lists, old_lists)
        yield Candidate("old design on Flink, 1 slot", job, arguments.old_events, command, arguments.old_runs, check, True)


def measure(candidate):
    print(f"{candidate.name}: {candidate.job}", file=sys.stderr, flush=True)
    candidate.prepare()
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, candidate.command)), stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    sample = Sample(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    if process.returncode != 0:
        candidate.failure = f"exit code {process.returncode}"
        return
    try:
        report = json.loads(output.strip().splitlines()[-1] if candidate.self_timed else output)
        candidate.failure = candidate.check(report) or ""
    except (ValueError, KeyError, IndexError) as error:
        candidate.failure = f"no report that makes sense ({error!r})"
        return
    if candidate.self_timed:
        sample.job_wall_s, sample.job_cpu_s = report["seconds"], report["cpu_seconds"]
    candidate.samples.append(sample)


def spread(values, digits):
    text = lambda value: f"{value:,.{digits}f}"
    return f"{text(statistics.median(values))} ({text(min(values))}–{text(max(values))})"


def print_table(candidates):
    """Medians with their spread; ratios are of median CPU, to the floor's job of the same name."""
    cpu = lambda candidate: statistics.median(sample.cpu_s for sample in candidate.samples) / candidate.events * 1e6
    floors = {c.job: cpu(c) for c in candidates if c.name.startswith("floor") and c.samples}
    names = ["job", "program", "runs", "events/s, thousands", "CPU µs/event", "CPU, × floor", "peak RSS, MiB"]
    print("| " + " | ".join([*names, "the job alone: events/s, thousands", "CPU µs/event"]) + " |")
    print("|---" * (len(names) + 2) + "|")
    for candidate in sorted(candidates, key=lambda candidate: candidate.job):
        samples = candidate.samples
        if candidate.failure or not samples:
            print(f"| {candidate.job} | {candidate.name} | failed: {candidate.failure} | | | | | | |")
            continue
        rates = lambda walls: spread([candidate.events / wall / 1000 for wall in walls], 0)
        costs = lambda cpus: spread([cpu_s / candidate.events * 1e6 for cpu_s in cpus], 3)
        floor = floors.get(candidate.job.split(",")[0])
        ratio = f"{cpu(candidate) / floor:.1f}" if floor else ""
        memory = spread([sample.rss_mib for sample in samples], 0)
        whole = [rates([s.wall_s for s in samples]), costs([s.cpu_s for s in samples])]
        alone = ["", ""]
        if candidate.self_timed:
            alone = [rates([s.job_wall_s for s in samples]), costs([s.job_cpu_s for s in samples])]
        columns = [candidate.job, candidate.name, len(samples), *whole, ratio, memory, *alone]
        print("| " + " | ".join(map(str, columns)) + " |")


def save(candidates, path):
    rows = [
        {
            "name": candidate.name,
            "job": candidate.job,
            "events": candidate.events,
            "failure": candidate.failure,
            "samples": [vars(sample) for sample in candidate.samples],
        }
        for candidate in candidates
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
