#!/usr/bin/env python3
"""One epoch of each training beside the same computation written plainly in PyTorch.

usage: scripts/with-libtorch scripts/bench-train.py [--users N] [--items N] [--events N] [--runs N] [--device cpu|cuda]
           [--only NAME]… [--features] [--eddyline PROGRAM]

With --features the log has the Tianchi tables' three features of users and three of items, which the embeddings take.

Generates a log, trains one epoch with target/release/eddyline, and one with the loops below, in turn, `--runs` times; prints
samples/s of both (medians, least and most) and their ratio. Both have the same samples, batch size, networks, losses,
optimiser (Adam), number of threads and device, and both read their samples from memory: what is timed is the epoch, not
reading the log. The plain side is as one writes it with autograd and torch.optim: whole batches are indexed at once (no
DataLoader, which would be slower by far), nn.Embedding, torch.cat, repeat_interleave, log_softmax. The plain embeddings draw
negatives without asking whether the user has had them.
"""

import argparse
import copy
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent
H, D, HIDDEN = 10, 32, 64
REWARDS = {"pv": 1.0, "cart": 2.0, "fav": 2.0, "buy": 3.0}
BATCH = {"embeddings": 2048, "reinforce": 128, "ddpg": 2048, "bcq": 2048}


def training_len(n):
    return n if n <= 3 else int(0.8 * n + 0.5)


def indices(features, count):
    """Of each feature a column of indices by user or item, from 1; 0 is padding."""
    width = max(map(len, features.values()))
    columns = torch.zeros(count, width, dtype=torch.long)
    for at in range(width):
        values = {}
        for row in range(count):
            columns[row, at] = values.setdefault(features[row][at], len(values) + 1)
    return columns


class Log:
    """The training parts as transitions, as the contract has them."""

    def __init__(self, path, users, items):
        by_user, of_users, of_items = {}, {}, {}
        for line in open(path):
            user, item, behavior, time_s, *features = line.rstrip("\n").split(",")
            by_user.setdefault(int(user), []).append((int(time_s), int(item), REWARDS[behavior]))
            of_users[users.get(int(user))], of_items[items.get(int(item))] = features[:3], features[3:]
        self.users, self.items = len(users), len(items)
        self.user_features, self.item_features = indices(of_users, self.users), indices(of_items, self.items)
        state_user, history, action, reward, done, returns = [], [], [], [], [], []
        for user, events in by_user.items():
            events.sort(key=lambda event: event[0])
            events = events[: training_len(len(events))]
            seen = [items[event[1]] for event in events]
            padded = [self.items] * H + seen
            after = 0.0
            back = []
            for at in reversed(range(len(events))):
                ends = at + 1 == len(events) or events[at + 1][0] - events[at][0] > 3600
                after = events[at][2] + (0.0 if ends else 0.99 * after)
                back.append(after)
            for at, (event, total) in enumerate(zip(events, reversed(back))):
                state_user.append(users[user])
                history.append(padded[at : at + H])
                action.append(seen[at])
                reward.append(event[2])
                done.append(float(at + 1 == len(events)))
                returns.append(total)
        self.user, self.action = torch.tensor(state_user), torch.tensor(action)
        self.history = torch.tensor(np.array(history))
        self.next_history = torch.cat([self.history[:, 1:], self.action[:, None]], 1)
        self.reward, self.done, self.returns = (torch.tensor(x)[:, None] for x in (reward, done, returns))

    def to(self, device):
        for name, value in vars(self).items():
            if torch.is_tensor(value):
                setattr(self, name, value.to(device))

    def batches(self, size, device):
        order = torch.randperm(len(self.user), device=device)
        for rows in order.split(size):
            if len(rows) > 1:
                yield rows


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, outputs)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(D * (H + 1), HIDDEN), nn.Linear(HIDDEN + D, HIDDEN), nn.Linear(HIDDEN, 1)

    def forward(self, s, a):
        return self.fc3(torch.relu(self.fc2(torch.cat([torch.relu(self.fc1(s)), a], 1))))


class States:
    def __init__(self, log, device):
        self.users = nn.Embedding(log.users, D, device=device).requires_grad_(False)
        self.items = nn.Embedding(log.items + 1, D, padding_idx=log.items, device=device).requires_grad_(False)

    def __call__(self, user, history):
        return torch.cat([self.users(user), self.items(history).flatten(1)], 1)


def follow(target, net, tau):
    for old, new in zip(target.parameters(), net.parameters()):
        old.data.copy_(tau * new.data + (1 - tau) * old.data)


def adam(*nets, lr=1e-5):
    return torch.optim.Adam([p for net in nets for p in net.parameters()], lr=lr)


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def ddpg(log, device):
    states, actor, critic = States(log, device), Net(D * (H + 1), D).to(device), Critic().to(device)
    actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_adam, critic_adam = adam(actor), adam(critic)

    def train(rows):
        s, following = states(log.user[rows], log.history[rows]), states(log.user[rows], log.next_history[rows])
        a = states.items(log.action[rows])
        with torch.no_grad():
            y = log.reward[rows] + 0.99 * (1 - log.done[rows]) * critic_target(following, actor_target(following))
        step(critic_adam, F.mse_loss(critic(s, a), y))
        step(actor_adam, -critic(s, actor(s)).mean())
        follow(actor_target, actor, 0.001)
        follow(critic_target, critic, 0.001)

    return train


def reinforce(log, device):
    states = States(log, device)
    first, second = nn.Linear(D * (H + 1), HIDDEN).to(device), nn.Linear(HIDDEN, HIDDEN).to(device)
    policy, behavior = nn.Linear(HIDDEN, log.items + 1).to(device), nn.Linear(HIDDEN, log.items + 1).to(device)
    optimizer = adam(first, second, policy, behavior)

    def train(rows):
        action = log.action[rows][:, None]
        hidden = torch.relu(second(torch.relu(first(states(log.user[rows], log.history[rows])))))
        log_pi = F.log_softmax(policy(hidden), 1).gather(1, action)
        log_beta = F.log_softmax(behavior(hidden.detach()), 1).gather(1, action)
        pi = log_pi.detach().exp()
        weight = (pi / log_beta.detach().exp()).clamp(max=2)
        step(optimizer, -(weight * 10 * (1 - pi) ** 9 * log.returns[rows] * log_pi).mean() - log_beta.mean())

    return train


def bcq(log, device, n=10):
    states = States(log, device)
    state = D * (H + 1)

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder1, self.encoder2 = nn.Linear(state + D, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
            self.mean, self.log_std = nn.Linear(HIDDEN, 2 * D), nn.Linear(HIDDEN, 2 * D)
            self.decoder = Net(state + 2 * D, D)

        def decode(self, s, z=None):
            if z is None:
                z = torch.randn(len(s), 2 * D, device=s.device).clamp(-0.5, 0.5)
            return self.decoder(torch.cat([s, z], 1))

        def forward(self, s, a):
            hidden = torch.relu(self.encoder2(torch.relu(self.encoder1(torch.cat([s, a], 1)))))
            mean, std = self.mean(hidden), self.log_std(hidden).clamp(-4, 15).exp()
            return self.decode(s, mean + std * torch.randn_like(std)), mean, std

    generator, perturbator = Generator().to(device), Net(state + D, D).to(device)
    critics = nn.ModuleList([Net(state + D, 1), Net(state + D, 1)]).to(device)
    perturbator_target, critics_target = copy.deepcopy(perturbator), copy.deepcopy(critics)
    generator_adam, perturbator_adam, critics_adam = adam(generator), adam(perturbator), adam(critics)

    def perturbed(net, s, a):
        return a + 0.05 * torch.tanh(net(torch.cat([s, a], 1)))

    def train(rows):
        s, following = states(log.user[rows], log.history[rows]), states(log.user[rows], log.next_history[rows])
        a = states.items(log.action[rows])
        made, mean, std = generator(s, a)
        kl = -0.5 * (1 + torch.log(std.pow(2)) - mean.pow(2) - std.pow(2)).mean()
        step(generator_adam, F.mse_loss(made, a) + 0.5 * kl)
        with torch.no_grad():
            repeated = following.repeat_interleave(n, 0)
            sa = torch.cat([repeated, perturbed(perturbator_target, repeated, generator.decode(repeated))], 1)
            q1, q2 = critics_target[0](sa), critics_target[1](sa)
            q = (0.75 * torch.min(q1, q2) + 0.25 * torch.max(q1, q2)).reshape(-1, n).max(1).values[:, None]
            y = log.reward[rows] + 0.99 * (1 - log.done[rows]) * q
        sa = torch.cat([s, a], 1)
        step(critics_adam, F.mse_loss(critics[0](sa), y) + F.mse_loss(critics[1](sa), y))
        action = perturbed(perturbator, s, generator.decode(s).detach())
        step(perturbator_adam, -critics[0](torch.cat([s, action], 1)).mean())
        follow(critics_target, critics, 0.005)
        follow(perturbator_target, perturbator, 0.005)

    return train


def embeddings(log, device):
    def tower(count, features):
        ids = nn.Embedding(count + 1, D, padding_idx=count)
        tables = [ids, *(nn.Embedding(int(column.max()) + 1, D, padding_idx=0) for column in features.T)]
        layers = nn.Sequential(
            nn.Linear(4 * D, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
            nn.Linear(256, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Linear(128, D),
        )
        return nn.ModuleList([nn.ModuleList(tables), layers]).to(device)

    towers = tower(log.users, log.user_features), tower(log.items, log.item_features)
    optimizer = adam(*towers, lr=5e-4)
    loss_of = nn.CosineEmbeddingLoss()

    def vectors(tower, index, features):
        (ids, *tables), layers = tower
        found = [ids(index), *(table(column) for table, column in zip(tables, features[index].T))]
        # Without features their vectors are padding, zero.
        return F.normalize(layers(F.pad(torch.cat(found, 1), (0, (4 - len(found)) * D))), dim=1)

    def train(rows):
        negative = torch.randint(log.items, (len(rows),), device=device)
        user = log.user[rows].repeat(2)
        item = torch.cat([log.action[rows], negative])
        label = torch.ones(len(user), device=device)
        label[len(rows) :] = -1
        users, items = vectors(towers[0], user, log.user_features), vectors(towers[1], item, log.item_features)
        step(optimizer, loss_of(users, items, label))

    return train


def plain(name, log, device):
    train = {"ddpg": ddpg, "reinforce": reinforce, "bcq": bcq, "embeddings": embeddings}[name](log, device)
    size = BATCH[name] // 2 if name == "embeddings" else BATCH[name]
    began = time.perf_counter()
    for rows in log.batches(size, device):
        train(rows)
    if device != "cpu":
        torch.cuda.synchronize()
    return len(log.user) / (time.perf_counter() - began)


def ours(name, data, directory, options):
    flags = ["--epochs", "1", "--device", options.device, "--tensorboard", "none", "--json", "-q", "--restart"]
    command = [options.eddyline, "train", name, data, "--model-dir", directory, *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["samples_per_s"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=list(BATCH), action="append")
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--eddyline", default=ROOT / "target/release/eddyline")
    options = parser.parse_args()
    random.seed(1)
    torch.manual_seed(1)
    work = pathlib.Path(tempfile.mkdtemp(prefix="eddyline-bench-train."))
    data, directory = work / "log.csv", work / "model"
    size = ["--users", options.users, "--items", options.items, "--events", options.events]
    columns = "tianchi" if options.features else "events"
    subprocess.run([options.eddyline, "generate", data, *map(str, size), "--columns", columns, "-q"], check=True)
    ours("embeddings", data, directory, options)
    maps = [json.loads((directory / f"{name}_map.json").read_text()) for name in ("user", "item")]
    log = Log(data, *({int(key): value for key, value in of.items()} for of in maps))
    log.to(options.device)
    print(f"{len(log.user):,} samples, {log.users:,} users, {log.items:,} items, {torch.get_num_threads()} threads, "
          f"PyTorch {torch.__version__}, {options.device}; samples/s, median (least to most) of {options.runs}")
    # New embeddings remove policies, so they are measured in a directory of their own.
    alone = work / "embeddings"
    for name in options.only or BATCH:
        rates = {"eddyline": [], "PyTorch": []}
        for _ in range(options.runs):
            rates["eddyline"].append(ours(name, data, alone if name == "embeddings" else directory, options))
            rates["PyTorch"].append(plain(name, log, options.device))
        texts = [f"{side} {statistics.median(r):,.0f} ({min(r):,.0f} to {max(r):,.0f})" for side, r in rates.items()]
        ratio = statistics.median(rates["eddyline"]) / statistics.median(rates["PyTorch"])
        print(f"{name:<11}{texts[0]:<48}{texts[1]:<48}{ratio:.2f}x", flush=True)


main()
