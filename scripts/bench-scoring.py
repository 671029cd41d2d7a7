#!/usr/bin/env python3
"""Times exact top-10 over whole catalogues: Eddyline beside FAISS, PyTorch and ONNX Runtime.

All four are given the same tables and queries and take turns, sample by sample, so that a busy moment of the machine
hits all alike. A sample is at least a tenth of a second of batches. Eddyline's figures include the gathering of states and
the forward pass; the peers start from ready query vectors. Prints medians with the least and largest sample, processor
time, ratios, and whether the items agree (except where scores differ by less than 1e-5).

    scripts/bench-scoring.py [--venv DIR] [--rounds 5] [--counts 160000,290000] [--batches 1,32,256,1024] [--threads 1,2]

The peers come from PyPI into a virtual environment of their own (PyTorch alone takes 4.7 GB); one that is there is used.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"numpy": "numpy", "torch": "torch", "faiss": "faiss-cpu", "onnx": "onnx", "onnxruntime": "onnxruntime"}
PEERS = ["faiss", "torch", "onnxruntime"]
K = 10
USERS = 1024
DIM = 32
AGREE_BELOW = 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / "target" / "bench-venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", type=numbers, default=[160_000, 290_000])
    parser.add_argument("--batches", type=numbers, default=[1, 32, 256, 1024])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "DIR", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        name, directory, threads = arguments.peer
        return serve_peer(name, Path(directory), int(threads))
    python = prepare_venv(arguments.venv)
    program = build()
    for count in arguments.counts:
        for biased in (False, True):
            with tempfile.TemporaryDirectory(prefix="bench-scoring-") as directory:
                make_data(python, Path(directory), count, biased)
                compare(arguments, python, program, Path(directory), count, biased)


def numbers(text):
    return [int(part) for part in text.split(",")]


def prepare_venv(path):
    python = path / "bin" / "python"
    if not python.exists():
        venv.create(path, with_pip=True)
    missing = [
        package
        for module, package in PACKAGES.items()
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode != 0
    ]
    if missing:
        print("installing", *missing, file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *missing], check=True)
    return python


def build():
    """Builds the benchmark and says where it is."""
    command = ["cargo", "bench", "--bench", "scoring", "--no-run", "--message-format=json"]
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [json.loads(line).get("executable") for line in messages if '"name":"scoring"' in line]
    return next(path for path in found if path)


def make_data(python, directory, count, biased):
    """Normally distributed vectors: users of 32 values, and a table of 32, or of 64 and a bias."""
    depth = 2 * DIM if biased else DIM
    code = f"""
import numpy
random = numpy.random.default_rng({count + biased})
normal = lambda *shape: random.standard_normal(shape, dtype=numpy.float32)
normal({USERS}, {DIM}).tofile("users.f32")
(normal({count}, {depth}) / {depth} ** 0.5).tofile("rows.f32")
if {biased}:
    (normal({count}) / 4).tofile("bias.f32")
"""
    subprocess.run([python, "-c", code], cwd=directory, check=True)


class Contestant:
    """A process that answers commands, one line each."""

    def __init__(self, name, command, environment):
        self.name = name
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | environment,
        )
        self.greeting = self.read()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        return self.read()

    def read(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}")
        return line

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(arguments, python, program, directory, count, biased):
    head = "d = 64 + bias" if biased else "d = 32"
    for threads in arguments.threads:
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        contestants = [Contestant("eddyline", [program, "--data", directory], {})]
        for name in PEERS:
            command = [python, __file__, "--peer", name, directory, threads]
            contestants.append(Contestant(name, command, environment))
        gemm = max(float(contestant.greeting.split()[-1]) for contestant in contestants if contestant.name == "torch")
        print(f"\nN = {count:,}, {head}, {threads} thread(s): sgemm {gemm:.0f} GFLOP/s; {contestants[0].greeting}")
        print(f"{'batch':>6} {'':<12} {'µs/query':>9} {'least':>9} {'largest':>9} {'CPU µs':>9} {'of sgemm':>9} {'ratio':>7} {'CPU ratio':>9}")
        for batch in arguments.batches:
            samples = {contestant.name: [] for contestant in contestants}
            for _ in range(arguments.rounds):
                for contestant in contestants:
                    samples[contestant.name].append([float(x) for x in contestant.ask(f"{batch} {threads}").split()])
            report(batch, samples, gemm, 2 * count * DIM * (2 if biased else 1))
        if threads == arguments.threads[0]:
            agreement(python, directory, contestants)
        for contestant in contestants:
            contestant.close()
        sys.stdout.flush()


def report(batch, samples, gemm, flop):
    summary = {}
    for name, values in samples.items():
        wall = [value[0] for value in values]
        summary[name] = (statistics.median(wall), min(wall), max(wall), statistics.mean(value[1] for value in values))
    own = summary["eddyline"]
    for name, (median, least, largest, cpu) in summary.items():
        share = flop / median / 1e3 / gemm
        ratios = "" if name == "eddyline" else f"{median / own[0]:>6.1f}x {cpu / own[3]:>8.1f}x"
        print(f"{batch:>6} {name:<12} {median:>9.1f} {least:>9.1f} {largest:>9.1f} {cpu:>9.1f} {share:>8.0%} {ratios}")


def agreement(python, directory, contestants):
    """Compares the answers to all users, rank by rank."""
    for contestant in contestants:
        contestant.ask(f"answers {directory / contestant.name}")
    code = f"""
import numpy
answers = lambda name: numpy.fromfile(name, dtype=[("item", "<u4"), ("score", "<f4")]).reshape({USERS}, {K})
own = answers("eddyline")
for name in {PEERS}:
    peer = answers(name)
    differ = own["item"] != peer["item"]
    gap = numpy.abs(own["score"] - peer["score"])
    print(f"  items of {{name}}: {{(~differ).sum()}} of {{differ.size}} ranks equal, "
          f"{{(differ & (gap >= {AGREE_BELOW})).sum()}} differ beyond ties; scores within {{gap.max():.1e}}")
"""
    print(subprocess.run([python, "-c", code], cwd=directory, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")


def serve_peer(name, directory, threads):
    import numpy

    load = lambda file: numpy.fromfile(directory / file, dtype=numpy.float32)
    users = load("users.f32").reshape(-1, DIM)
    biased = (directory / "bias.f32").exists()
    queries = numpy.hstack([numpy.maximum(users, 0), numpy.maximum(-users, 0)]) if biased else users
    rows = load("rows.f32").reshape(-1, queries.shape[1])
    bias = load("bias.f32") if biased else None
    variants = {"faiss": faiss_variants, "torch": torch_variants, "onnxruntime": onnx_variants}[name](rows, bias, threads)
    # The same users again and again, so that a batch is a slice.
    queries = numpy.ascontiguousarray(numpy.vstack([queries, queries]))
    print(name, f"{sgemm_gflops(threads):.1f}" if name == "torch" else 0, flush=True)
    fastest = {}
    next_query = 0
    for line in sys.stdin:
        first, second = line.split()
        if first == "answers":
            items, scores = variants[0](queries[:USERS])
            answer = numpy.empty(items.shape, dtype=[("item", "<u4"), ("score", "<f4")])
            answer["item"], answer["score"] = items, scores
            answer.tofile(second)
            print("written", flush=True)
            continue
        batch = int(first)
        if batch not in fastest:
            fastest[batch] = min(variants, key=lambda run: (run(queries[:batch]), timed(run, queries[:batch]))[1])
        run, runs = fastest[batch], 0
        wall, cpu = time.perf_counter(), time.process_time()
        while runs == 0 or time.perf_counter() - wall < 0.1:
            run(queries[next_query : next_query + batch])
            next_query = (next_query + batch) % USERS
            runs += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{wall * 1e6 / runs / batch:.3f} {cpu * 1e6 / runs / batch:.3f}", flush=True)


def timed(run, queries):
    start = time.perf_counter()
    run(queries)
    return time.perf_counter() - start


def sgemm_gflops(threads):
    """The most that a square sgemm of PyTorch's library reaches, by processor time: what a free machine would give."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.rand(1536, 1536), torch.rand(1536, 1536)

    def processor_time():
        start = time.process_time()
        a @ b
        return (time.process_time() - start) / threads

    return 2 * 1536**3 / min(processor_time() for _ in range(12)) / 1e9


def faiss_variants(rows, bias, threads):
    """IndexFlatIP; a bias is one more column, filled up to a multiple of four."""
    import faiss
    import numpy

    faiss.omp_set_num_threads(threads)
    width = rows.shape[1] + (0 if bias is None else 4)
    table = numpy.zeros((len(rows), width), dtype=numpy.float32)
    table[:, : rows.shape[1]] = rows
    if bias is not None:
        table[:, rows.shape[1]] = bias
    index = faiss.IndexFlatIP(width)
    index.add(table)

    def run(queries):
        if bias is not None:
            queries = numpy.hstack([queries, numpy.ones((len(queries), 1)), numpy.zeros((len(queries), 3))])
        scores, items = index.search(numpy.ascontiguousarray(queries, dtype=numpy.float32), K)
        return items, scores

    return [run]


def torch_variants(rows, bias, threads):
    """matmul + topk, the table as it is or transposed in memory."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    table = torch.from_numpy(rows)
    transposed = table.T.contiguous()
    offset = None if bias is None else torch.from_numpy(bias)

    def variant(columns):
        def run(queries):
            queries = torch.from_numpy(queries)
            scores = queries @ columns if offset is None else torch.addmm(offset, queries, columns)
            scores, items = torch.topk(scores, K)
            return items.numpy(), scores.numpy()

        return run

    return [variant(table.T), variant(transposed)]


def onnx_variants(rows, bias, threads):
    """MatMul (+ Add) + TopK, and Gemm with the table as it is; large batches whole, or 64 queries at a time."""
    import numpy
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def session(gemm):
        table = numpy_helper.from_array(rows if gemm else numpy.ascontiguousarray(rows.T), "table")
        constants = [table, numpy_helper.from_array(numpy.array([K], dtype=numpy.int64), "k")]
        if bias is not None:
            constants.append(numpy_helper.from_array(bias, "bias"))
        if gemm:
            inputs = ["queries", "table"] + (["bias"] if bias is not None else [])
            nodes = [helper.make_node("Gemm", inputs, ["scores"], transB=1)]
        else:
            product = "scores" if bias is None else "products"
            nodes = [helper.make_node("MatMul", ["queries", "table"], [product])]
            if bias is not None:
                nodes.append(helper.make_node("Add", ["products", "bias"], ["scores"]))
        nodes.append(helper.make_node("TopK", ["scores", "k"], ["best", "items"], axis=1, largest=1, sorted=1))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "scoring", [value("queries", TensorProto.FLOAT, ["batch", rows.shape[1]])],
            [value("best", TensorProto.FLOAT, ["batch", K]), value("items", TensorProto.INT64, ["batch", K])], constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def variant(session, step):
        def run(queries):
            answers = [session.run(["items", "best"], {"queries": queries[i : i + step]}) for i in range(0, len(queries), step)]
            return numpy.vstack([items for items, _ in answers]), numpy.vstack([best for _, best in answers])

        return run

    sessions = [session(gemm=False), session(gemm=True)]
    return [variant(session, step) for session in sessions for step in (1 << 30, 64, 16)]


if __name__ == "__main__":
    main()
