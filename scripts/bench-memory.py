#!/usr/bin/env python3
"""Memory and cost of a replay: flat over time, and how they grow with events, users, items and window.

    scripts/bench-memory.py                # everything; about ten minutes on two idle cores
    scripts/bench-memory.py --events 5M    # a shorter long run

Needs cargo. Logs go to `target/bench-memory/` and are made by `eddyline generate`, deterministically. Prints Markdown.
RSS is read from /proc while the program runs, so this is for Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_S = 0.05
WIDE = ["--set", "popular.window=13h", "--set", "popular.slide=10m", "--set", "time.tick=20s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", default="50M", help="events of the long run")
    parser.add_argument("--users", default="500k", help="users of the long run")
    parser.add_argument("--eddyline", type=Path, help="a binary to measure instead of building one")
    parser.add_argument("--only", choices=["flat", "growth"], help="one of the two parts")
    arguments = parser.parse_args()
    work = ROOT / "target" / "bench-memory"
    work.mkdir(parents=True, exist_ok=True)
    binary = arguments.eddyline or build()
    if arguments.only != "growth":
        flat(binary, work, arguments)
    if arguments.only != "flat":
        growth(binary, work)


def build():
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    return ROOT / "target" / "release" / "eddyline"


def generate(binary, work, **options):
    name = "-".join(f"{key}{value}" for key, value in sorted(options.items()))
    log = work / f"{name}.csv"
    if not log.exists():
        partial = log.with_suffix(".partial")
        flags = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        subprocess.run([binary, "generate", "--quiet", partial, *flags], check=True)
        partial.rename(log)
    return log


def replay(binary, log, *flags):
    """The report, CPU seconds, and RSS in MiB over time."""
    command = [str(binary), "replay", str(log), "--json", "--quiet", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    samples, started = [], time.perf_counter()
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        samples.append((time.perf_counter() - started, rss_mib(process.pid)))
        time.sleep(SAMPLE_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    report = json.loads(process.stdout.read())["replay"]
    return report, usage.ru_utime + usage.ru_stime, [sample for sample in samples if sample[1]]


def rss_mib(pid):
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(points):
    """Least squares: growth of y per x."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def flat(binary, work, arguments):
    # Evenly active users, so that all have appeared early on, and days enough that no window holds much of the log.
    options = {"events": arguments.events, "users": arguments.users, "user_exponent": 0, "items": "200k"}
    log = generate(binary, work, duration="240h", **options)
    report, cpu, samples = replay(binary, log)
    total = samples[-1][0]
    print(f"RSS over one replay of {arguments.events} events of {arguments.users} users (popular, recent, recommend, -w 1):\n")
    print("| share of the run | " + " | ".join(f"{tenth * 10} %" for tenth in range(1, 11)) + " |")
    print("|---|" + "---|" * 10)
    at = [max(rss for second, rss in samples if second <= total * tenth / 10) for tenth in range(1, 11)]
    now = [[rss for second, rss in samples if second <= total * tenth / 10][-1] for tenth in range(1, 11)]
    print("| RSS, MiB | " + " | ".join(f"{rss:.0f}" for rss in now) + " |")
    print("| peak so far, MiB | " + " | ".join(f"{rss:.0f}" for rss in at) + " |")
    second_half = [(second / total, rss) for second, rss in samples if second >= total / 2]
    print(f"\nFitted growth over the second half: {slope(second_half) / 2:+.1f} MiB. CPU {cpu:.1f} s.\n")


def growth(binary, work):
    base = {"events": "2M", "users": "200k", "items": "50k", "duration": "48h", "user_exponent": 0}
    number = lambda text: int(text[:-1]) * {"k": 10**3, "M": 10**6}[text[-1]]
    print("Peak RSS and CPU as one size grows (popular, recent, recommend, -w 1; the others stay: " + ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in base.items()) + ", window 60m):\n")
    print("| what | sizes | peak RSS, MiB | growth of RSS | CPU µs/event |")
    print("|---|---|---|---|---|")
    # Users with full sequences, and items that all are in the window: what a user and an item take.
    users = lambda size: {"users": size, "events": 20 * number(size)}
    items = lambda size: {"items": size, "item_exponent": 0, "successor": 0, "events": "8M", "duration": "12h"}
    for what, sizes, unit, options, flags in [
        ("events", ["1M", "2M", "4M", "8M"], "B an event", lambda size: {"events": size}, []),
        ("users, 20 events each", ["250k", "500k", "1M", "2M"], "B a user", users, []),
        ("items, all in a window of 13 h", ["250k", "500k", "1M", "2M"], "B an item", items, WIDE),
    ]:
        rows = [
            (number(size), *measure(binary, generate(binary, work, **{**base, **options(size)}), *flags)) for size in sizes
        ]
        row(what, sizes, rows, slope([(size, rss * 2**20) for size, rss, _ in rows]), unit)
    windows = ["20m", "60m", "180m", "540m"]
    log = generate(binary, work, **base)
    rows = [(int(size[:-1]), *measure(binary, log, "--set", f"popular.window={size}", "--set", "popular.slide=60s")) for size in windows]
    row("window", windows, rows, slope([(size, rss * 2**20) for size, rss, _ in rows]), "B a minute")


def measure(binary, log, *flags):
    report, cpu, samples = replay(binary, log, *flags)
    return max(rss for _, rss in samples), cpu / report["events"] * 1e6


def row(what, sizes, rows, grown, unit):
    join = lambda values: " · ".join(values)
    print(f"| {what} | {join(sizes)} | {join(f'{rss:.0f}' for _, rss, _ in rows)} | {grown:.0f} {unit} | {join(f'{cpu:.2f}' for _, _, cpu in rows)} |")


if __name__ == "__main__":
    main()
