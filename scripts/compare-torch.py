#!/usr/bin/env python3
"""Scores a trained model directory with PyTorch, in modules built from the keys and shapes of its files alone.

usage: compare-torch.py MODEL_DIR {reinforce|ddpg|bcq} < requests.jsonl > answers.jsonl

A request is {"user": u, "items": [i, …]}, in model indices, oldest item first; H items each, `count` for padding. An answer is
{"items": […], "scores": […]}: the ten best, best first. The state_dict is read with weights_only=True and loaded strictly: a
missing key, one too many, or another shape is an error. BCQ's z is 0, as it is served.
"""

import json
import pathlib
import sys

import torch
from torch import nn

TOP = 10


def embedding(table):
    return nn.Embedding(*table.shape)


def linear(state, key):
    outputs, inputs = state[key + ".weight"].shape
    return nn.Linear(inputs, outputs)


class Layers(nn.Module):
    """The tables and layers that a state_dict names."""

    def __init__(self, state):
        super().__init__()
        for key in state:
            name, part = key.split(".")
            if part == "weight" and name.endswith("_embeds"):
                setattr(self, name, embedding(state[key]))
            elif part == "weight":
                setattr(self, name, linear(state, name))
        self.load_state_dict(state, strict=True)

    def state(self, user, items):
        return torch.cat([self.user_embeds(user), self.item_embeds(items).flatten(1)], 1)

    def three(self, x, first, second, third):
        return getattr(self, third)(torch.relu(getattr(self, second)(torch.relu(getattr(self, first)(x)))))


def scores(algorithm, state, user, items):
    if algorithm == "bcq":
        generator, perturbator = Layers(state["generator"]), Layers(state["perturbator"])
        s = generator.state(user, items)
        z = torch.zeros(len(s), 2 * generator.item_embeds.embedding_dim)
        made = generator.three(torch.cat([s, z], 1), "decoder1", "decoder2", "decoder3")
        action = made + 0.05 * torch.tanh(perturbator.three(torch.cat([s, made], 1), "fc1", "fc2", "fc3"))
        return action @ generator.item_embeds.weight.T
    layers = Layers(state)
    s = layers.state(user, items)
    if algorithm == "reinforce":
        return layers.three(s, "pfc1", "pfc2", "softmax_fc")
    return layers.three(s, "fc1", "fc2", "fc3") @ layers.item_embeds.weight.T


def main():
    directory, algorithm = pathlib.Path(sys.argv[1]), sys.argv[2]
    state = torch.load(directory / f"model_{algorithm}.pt", weights_only=True)
    count = len(json.loads((directory / "item_map.json").read_text()))
    requests = [json.loads(line) for line in sys.stdin]
    user = torch.tensor([request["user"] for request in requests])
    items = torch.tensor([request["items"] for request in requests])
    with torch.no_grad():
        # The padding item is never recommended.
        best = scores(algorithm, state, user, items)[:, :count].topk(min(TOP, count))
    for indices, values in zip(best.indices.tolist(), best.values.tolist()):
        print(json.dumps({"items": indices, "scores": values}))


main()
