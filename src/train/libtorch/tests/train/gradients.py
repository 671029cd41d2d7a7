"""The losses, gradients and steps of each algorithm, written plainly in PyTorch from the papers, against what training computed.

usage: gradients.py {embeddings|spectral|reinforce|ddpg|bcq} IN.safetensors

IN holds inputs (input.*), weights before (before.*), losses (loss.*), gradients (grad.*), and weights after the steps
(after.*). Everything else is computed here, with autograd and torch.optim, in float64 where that decides nothing: no trick of
the program is repeated.
"""

import json
import struct
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)


def load(path):
    """A safetensors file: u64 length, JSON header, data. Its metadata holds the hyper-parameters."""
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    meta = header.pop("__metadata__", {})
    kinds = {"F32": np.float32, "I64": np.int64}
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = np.frombuffer(data[8 + length + begin : 8 + length + end], kinds[entry["dtype"]]).reshape(entry["shape"])
        tensor = torch.from_numpy(raw.copy())
        out[name] = tensor.double() if tensor.is_floating_point() else tensor
    return out, {key: float(value) for key, value in meta.items()}


algorithm, path = sys.argv[1:]
data, options = load(path)
checked = 0


def close(what, found, expected, tolerance=2e-5):
    global checked
    expected = expected.detach()
    assert found.shape == expected.shape, f"{what}: shape {tuple(found.shape)}, not {tuple(expected.shape)}"
    scale = max(expected.abs().max().item(), 1e-3)
    error = (found - expected).abs().max().item() / scale
    assert error < tolerance, f"{algorithm}: {what} is off by {error:.2e} of its largest value"
    checked += 1


def parameter(name):
    return data["before." + name].clone().requires_grad_(True)


def network(prefix, *layers):
    """Leaf tensors of the layers, by key."""
    return {f"{layer}.{part}": parameter(f"{prefix}{layer}.{part}") for layer in layers for part in ("weight", "bias")}


def linear(net, layer, x):
    return x @ net[layer + ".weight"].T + net[layer + ".bias"]


def mlp(net, x, names=("fc1", "fc2", "fc3")):
    first, second, third = names
    return linear(net, third, torch.relu(linear(net, second, torch.relu(linear(net, first, x)))))


def frozen(net):
    return {key: value.detach().clone() for key, value in net.items()}


def check_gradients(prefix, net, loss):
    for key, value in zip(net, torch.autograd.grad(loss, list(net.values()))):
        close(f"gradient of {prefix}{key}", data[f"grad.{prefix}{key}"], value)


def check_after(prefix, net):
    for key, value in net.items():
        close(f"{prefix}{key} after the steps", data[f"after.{prefix}{key}"], value, 2e-4)


def descend(optimizer, net, loss):
    for value, gradient in zip(net.values(), torch.autograd.grad(loss, list(net.values()))):
        value.grad = gradient
    optimizer.step()


def follow(target, net, tau):
    for key in net:
        target[key] = tau * net[key].detach() + (1 - tau) * target[key]


steps = int(options["steps"])
lr = options["lr"]

if algorithm not in ("embeddings", "spectral"):
    users, items = data["input.users"], data["input.items"]
    user, history, action = data["input.user"], data["input.history"], data["input.action"]
    reward, discount = data["input.reward"][:, None], data["input.discount"][:, None]
    assert items[-1].abs().max() == 0, "the padding row is not zero"

    def state(of_items):
        return torch.cat([users[user], items[of_items].flatten(1)], 1)

    s = state(history)
    following = state(torch.cat([history[:, 1:], action[:, None]], 1))
    a = items[action]

if algorithm == "ddpg":
    actor, critic = network("actor.", "fc1", "fc2", "fc3"), network("critic.", "fc1", "fc2", "fc3")
    actor_target, critic_target = frozen(actor), frozen(critic)
    actor_adam = torch.optim.Adam(actor.values(), lr=lr)
    critic_adam = torch.optim.Adam(critic.values(), lr=lr)

    def q(net, s, a):
        """The action joins at the second layer, as in the paper's section 7."""
        hidden = torch.relu(linear(net, "fc1", s))
        return linear(net, "fc3", torch.relu(linear(net, "fc2", torch.cat([hidden, a], 1))))

    def critic_loss():
        with torch.no_grad():
            y = reward + discount * q(critic_target, following, mlp(actor_target, following))
        return ((y - q(critic, s, a)) ** 2).mean()

    def actor_loss():
        value, weight = q(critic, s, mlp(actor, s)), options["behavior_weight"]
        if weight == 0:
            return -value.mean()
        return -value.mean() / value.abs().mean().detach() + weight * F.mse_loss(mlp(actor, s), a)

    close("critic loss", data["loss.critic"], critic_loss())
    close("actor loss", data["loss.actor"], actor_loss())
    check_gradients("critic.", critic, critic_loss())
    check_gradients("actor.", actor, actor_loss())
    for _ in range(steps):
        descend(critic_adam, critic, critic_loss())
        descend(actor_adam, actor, actor_loss())
        follow(actor_target, actor, options["tau"])
        follow(critic_target, critic, options["tau"])
    check_after("actor.", actor)
    check_after("critic.", critic)
    check_after("actor_target.", actor_target)
    check_after("critic_target.", critic_target)

elif algorithm == "reinforce":
    policy = network("", "pfc1", "pfc2", "softmax_fc")
    behavior = network("", "fc3")
    adam = torch.optim.Adam([*policy.values(), *behavior.values()], lr=lr)

    def losses():
        hidden = torch.relu(linear(policy, "pfc2", torch.relu(linear(policy, "pfc1", s))))
        log_pi = F.log_softmax(linear(policy, "softmax_fc", hidden), 1)[torch.arange(len(action)), action]
        log_beta = F.log_softmax(linear(behavior, "fc3", hidden.detach()), 1)[torch.arange(len(action)), action]
        pi = log_pi.detach().exp()
        weight = (pi / log_beta.detach().exp()).clamp(max=options["weight_clip"])
        k = options["top_k"]
        correction = k * (1 - pi) ** (k - 1)
        return -(weight * correction * reward[:, 0] * log_pi).mean(), -log_beta.mean(), weight.mean()

    of_policy, of_behavior, weight = losses()
    close("policy loss", data["loss.policy"], of_policy)
    close("behaviour loss", data["loss.behavior"], of_behavior)
    close("mean importance weight", data["loss.weight"], weight)
    check_gradients("", policy, of_policy)
    check_gradients("", behavior, losses()[1])
    for _ in range(steps):
        of_policy, of_behavior, _ = losses()
        descend(adam, policy | behavior, of_policy + of_behavior)
    check_after("", policy | behavior)

elif algorithm == "bcq":
    generator = network("generator.", "encoder1", "encoder2", "mean", "log_std", "decoder1", "decoder2", "decoder3")
    perturbator = network("perturbator.", "fc1", "fc2", "fc3")
    critics = [network(f"critics.{i}.", "fc1", "fc2", "fc3") for i in (1, 2)]
    perturbator_target, critic_targets = frozen(perturbator), [frozen(net) for net in critics]
    generator_adam = torch.optim.Adam(generator.values(), lr=lr)
    perturbator_adam = torch.optim.Adam(perturbator.values(), lr=lr)
    critic_adam = torch.optim.Adam([value for net in critics for value in net.values()], lr=lr)
    epsilon, z_targets, z_actions = data["input.epsilon"], data["input.z_targets"], data["input.z_actions"]
    n = int(options["actions"])
    assert z_targets.abs().max() <= 0.5 and z_actions.abs().max() <= 0.5, "z is not clamped"

    def decode(s, z):
        return mlp(generator, torch.cat([s, z], 1), ("decoder1", "decoder2", "decoder3"))

    def perturbed(net, s, a):
        return a + options["phi"] * torch.tanh(mlp(net, torch.cat([s, a], 1)))

    def q(net, s, a):
        return mlp(net, torch.cat([s, a], 1))

    def generator_loss():
        hidden = torch.relu(linear(generator, "encoder1", torch.cat([s, a], 1)))
        hidden = torch.relu(linear(generator, "encoder2", hidden))
        mean, log_std = linear(generator, "mean", hidden), linear(generator, "log_std", hidden).clamp(-4, 15)
        std = log_std.exp()
        made = decode(s, mean + std * epsilon)
        kl = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        return F.mse_loss(made, a) + options["kl_weight"] * kl

    def critic_loss():
        with torch.no_grad():
            repeated = following.repeat_interleave(n, 0)
            actions = perturbed(perturbator_target, repeated, decode(repeated, z_targets))
            q1, q2 = (q(net, repeated, actions) for net in critic_targets)
            mixed = options["lambda"] * torch.min(q1, q2) + (1 - options["lambda"]) * torch.max(q1, q2)
            y = reward + discount * mixed.reshape(-1, n).max(1).values[:, None]
        return sum(F.mse_loss(q(net, s, a), y) for net in critics)

    def perturbator_loss():
        with torch.no_grad():
            made = decode(s, z_actions)
        return -q(critics[0], s, perturbed(perturbator, s, made)).mean()

    both = {f"{i}.{key}": value for i, net in zip((1, 2), critics) for key, value in net.items()}
    close("generator loss", data["loss.generator"], generator_loss())
    close("critic loss", data["loss.critic"], critic_loss())
    close("perturbator loss", data["loss.perturbator"], perturbator_loss())
    check_gradients("generator.", generator, generator_loss())
    check_gradients("critics.", both, critic_loss())
    check_gradients("perturbator.", perturbator, perturbator_loss())
    for _ in range(steps):
        descend(generator_adam, generator, generator_loss())
        descend(critic_adam, both, critic_loss())
        descend(perturbator_adam, perturbator, perturbator_loss())
        for target, net in zip(critic_targets, critics):
            follow(target, net, options["tau"])
        follow(perturbator_target, perturbator, options["tau"])
    check_after("generator.", generator)
    check_after("perturbator.", perturbator)
    check_after("critics.", both)
    check_after("perturbator_target.", perturbator_target)
    check_after("critics_target.", {f"{i}.{key}": value for i, net in zip((1, 2), critic_targets) for key, value in net.items()})

elif algorithm == "spectral":
    found = data["after.items"]
    events, count, dim = data["input.events"].tolist(), len(found) - 1, found.shape[1]
    follows = torch.zeros(count, count)
    for at, (user, item) in enumerate(events):
        for apart in (1, 2, 3):
            if at >= apart and events[at - apart][0] == user:
                follows[events[at - apart][1], item] += 1 / apart
    n = follows.sum(1)
    _, sizes, right = torch.linalg.svd(follows / n.clamp(min=1e-300).sqrt()[:, None])
    vectors = right[:dim].T
    vectors = vectors / (vectors[[item for _, item in events]] ** 2).mean().sqrt()
    # The vectors are the same but for their signs.
    close("products of the items' vectors", found[:-1] @ found[:-1].T, vectors @ vectors.T)
    close("sizes of the columns", found.norm(dim=0), vectors.norm(dim=0))
    assert found[-1].abs().max() == 0, "the unknown item has a vector"
    close("mean probability", data["after.probability"], ((sizes[:dim] ** 2).sum() / n.sum())[None])
    rows = torch.arange(dim)
    largest = found[:-1].abs().argmax(0)
    assert (found[largest, rows] > 0).all(), "the signs are not those that were agreed on"

else:
    towers = {}
    for name in ("user", "item"):
        tables = [nn.Embedding.from_pretrained(data[f"before.{name}.table{i}"], freeze=False) for i in range(4)]
        for table in tables:
            table.padding_idx = table.num_embeddings - 1
            assert table.weight[-1].abs().max() == 0, "the padding row is not zero"
        dim = tables[0].embedding_dim
        layers = nn.Sequential(
            nn.Linear(4 * dim, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
            nn.Linear(256, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Linear(128, dim),
        )
        keys = {"fc1": 0, "bn1": 1, "fc2": 3, "bn2": 4, "fc3": 6}
        named = [(f"{key}.{part}", p) for key, at in keys.items() for part, p in layers[at].named_parameters()]
        for key, weights in named:
            weights.data = data[f"before.{name}.{key}"].clone()
        towers[name] = tables, layers, named
    events = data["input.user.0"].shape[0]
    rows = {name: [data[f"input.{name}.{i}"] for i in range(4)] for name in towers}
    # One row a sample: events, then negatives, each with its user.
    rows["user"] = [torch.cat([indices, indices]) for indices in rows["user"]]
    label = torch.cat([torch.ones(events), -torch.ones(events)])

    def vectors(name):
        tables, layers, _ = towers[name]
        return F.normalize(layers(torch.cat([table(index) for table, index in zip(tables, rows[name])], 1)), dim=1)

    def loss():
        u, i = vectors("user"), vectors("item")
        if options["bce"]:
            return F.binary_cross_entropy_with_logits((u * i).sum(1), (label + 1) / 2)
        return nn.CosineEmbeddingLoss()(u, i, label)

    close("loss", data["loss.loss"], loss())
    first = loss()
    first.backward()
    for name, (tables, layers, named) in towers.items():
        for key, weights in named:
            close(f"gradient of {name}.{key}", data[f"grad.{name}.{key}"], weights.grad)
        for i, table in enumerate(tables):
            close(f"gradient of {name}.table{i}", data[f"grad.{name}.table{i}"], table.weight.grad)
    everything = [p for tables, layers, _ in towers.values() for module in [*tables, layers] for p in module.parameters()]
    # Batches of the steps: the same rows, turned on by one, so that rows rest in some of them.
    batches = [{name: [data[f"input.step{k}.{name}.{i}"] for i in range(4)] for name in towers} for k in range(steps)]
    for _, layers, _ in towers.values():
        for module in layers:
            if isinstance(module, nn.BatchNorm1d):
                module.reset_running_stats()
    adam = torch.optim.Adam(everything, lr=lr)
    for batch in batches:
        rows["user"] = [torch.cat([indices, indices]) for indices in batch["user"]]
        rows["item"] = batch["item"]
        adam.zero_grad()
        loss().backward()
        adam.step()
    for name, (tables, layers, named) in towers.items():
        for i, table in enumerate(tables):
            close(f"{name}.table{i} after the steps", data[f"after.{name}.table{i}"], table.weight, 5e-4)
        for key, weights in named:
            # Biases begin at zero: what is compared is how far they moved, and Adam moves by the sign where a gradient is small.
            tolerance = 5e-3 if key.endswith("bias") else 5e-4
            close(f"{name}.{key} after the steps", data[f"after.{name}.{key}"], weights, tolerance)
        close(f"{name}.bn1.mean", data[f"after.{name}.bn1.mean"], layers[1].running_mean, 5e-4)

print(f"{algorithm}: {checked} tensors agree")
