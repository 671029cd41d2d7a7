"""Reads a .pt with weights_only=True, checks what kind of dict it is, and saves the same tensors in every way that PyTorch has.

usage: rewrite.py IN.pt {flat|nested} OUT_DIR
"""

import collections
import pathlib
import sys
import zipfile

import torch

path, nesting, out = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
state = torch.load(path, weights_only=True)
groups = [state] if nesting == "flat" else list(state.values())
assert nesting == "flat" or (type(state) is dict and list(state) == ["generator", "perturbator"]), type(state)
for group in groups:
    assert type(group) is collections.OrderedDict, type(group)
    for key, tensor in group.items():
        assert tensor.dtype is torch.float32 and tensor.is_contiguous() and not tensor.requires_grad, key


def every(change):
    """The same dicts with each tensor changed."""
    changed = [collections.OrderedDict((k, change(t)) for k, t in group.items()) for group in groups]
    return changed[0] if nesting == "flat" else dict(zip(state, changed))


def padded(tensor):
    """A view in the middle of a larger storage, its strides reversed."""
    big = torch.full([size + 3 for size in reversed(tensor.shape)], float("nan"))
    view = big[tuple(slice(2, 2 + size) for size in reversed(tensor.shape))].permute(*reversed(range(tensor.dim())))
    return view.copy_(tensor)


torch.save(state, out / "zip.pt")
torch.save(state, out / "legacy.pt", _use_new_zipfile_serialization=False)
for protocol in (3, 4, 5):
    torch.save(state, out / f"zip_protocol_{protocol}.pt", pickle_protocol=protocol)
    torch.save(state, out / f"legacy_protocol_{protocol}.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
torch.save(every(padded), out / "zip_views.pt")
torch.save(every(padded), out / "legacy_views.pt", _use_new_zipfile_serialization=False)
torch.save(every(torch.nn.Parameter), out / "zip_parameters.pt")
torch.save(every(lambda t: t.double()), out / "zip_f64.pt")
torch.save(every(lambda t: t.double()), out / "legacy_f64.pt", _use_new_zipfile_serialization=False)
torch.save(every(lambda t: t.half()), out / "rounded_f16.pt")
torch.save(every(lambda t: t.bfloat16()), out / "rounded_bf16.pt")
with zipfile.ZipFile(out / "zip.pt") as stored, zipfile.ZipFile(out / "zip_deflated.pt", "w", zipfile.ZIP_DEFLATED) as deflated:
    for name in stored.namelist():
        deflated.writestr(name, stored.read(name))
