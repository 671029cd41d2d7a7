//! A training's state on disk: everything that the next step depends on, in one safetensors file.
//!
//! Randomness has no state ([`super::random`]), so that is the tensors (weights, targets, both moments), the place in the
//! epoch, and what the epoch has added up so far. A file is written under another name, synced and renamed: there is always
//! a whole one, the newest or the one before.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::error::TrainError;
use super::network::floats;

const FORMAT: &str = "eddyline training 1";
/// The key of what is no tensor.
const POSITION: &str = "position";
const COUNTS: &str = "epoch_counts";

/// Where a training is, and what came of it so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// What the file is.
    pub(super) format: String,
    /// The log's fingerprint.
    pub(super) data: String,
    /// The tables that a policy is trained on; empty for the embeddings.
    pub(super) tables: String,
    /// The hyper-parameters, as JSON.
    pub(super) parameters: String,
    /// The epoch that is under way, from 1.
    pub(super) epoch: u32,
    /// Its batches that are done.
    pub(super) batches: u64,
    /// All batches that are done.
    pub(super) steps: i64,
    /// Of each loss the sum over the epoch's samples so far, as the bits of an f64.
    pub(super) sums: Vec<u64>,
    /// Those samples.
    pub(super) samples: u64,
    /// `history.jsonl`, by line.
    pub(super) history: Vec<String>,
    /// The best metric on the held-out samples, as the bits of an f64, and its epoch.
    pub(super) best: Option<(u64, u32)>,
    /// Whether it has stopped early.
    pub(super) stopped: bool,
}

/// Tensors and what goes with them.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) position: Position,
    pub(super) tensors: Vec<(String, Vec<f32>)>,
    pub(super) counts: Vec<u64>,
}

impl Position {
    pub(super) fn new(data: &str, tables: &str, parameters: String) -> Position {
        let (data, tables) = (data.to_owned(), tables.to_owned());
        Position { format: FORMAT.into(), data, tables, parameters, epoch: 1, ..Position::default() }
    }

    /// The history's line of the epoch whose weights are written: the best, where there is a best, else the last.
    pub(super) fn written(&self) -> Option<&str> {
        let last = self.epoch.saturating_sub(1);
        let epoch = self.best.map_or(last, |(_, best)| best);
        self.history.get(usize::try_from(epoch).ok()?.checked_sub(1)?).map(String::as_str)
    }

    /// How this run differs from `other`, which is to go on from it.
    pub(super) fn difference(&self, other: &Position) -> Option<String> {
        if self.data != other.data {
            return Some("another log".into());
        }
        if self.tables != other.tables {
            return Some("other embeddings".into());
        }
        let fields =
            |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).unwrap_or_default();
        let (here, there) = (fields(&self.parameters), fields(&other.parameters));
        let different = here.iter().find(|&(name, value)| there.get(name) != Some(value));
        let different = different.map(|(name, value)| format!("{name} = {value}"));
        different.or_else(|| (here.len() != there.len()).then(|| "other parameters".into()))
    }
}

/// Writes a checkpoint, and gives its bytes' number.
pub(super) fn write(
    path: &Path,
    position: &Position,
    tensors: &[(String, Tensor)],
    counts: &[u64],
) -> Result<(), TrainError> {
    let on_cpu = |(name, tensor): &(String, Tensor)| {
        let tensor = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        Ok::<_, TrainError>((
            name.clone(),
            floats(&tensor).iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
        ))
    };
    let mut data = tensors.iter().map(on_cpu).collect::<Result<Vec<_>, _>>()?;
    data.push((COUNTS.into(), counts.iter().flat_map(|count| count.to_le_bytes()).collect()));
    let bad = |reason: &dyn std::fmt::Display| TrainError::BadCheckpoint {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let view = |(name, bytes): &'_ (String, Vec<u8>)| {
        let (kind, width) = if name == COUNTS { (Dtype::U64, 8) } else { (Dtype::F32, 4) };
        (kind, vec![bytes.len() / width])
    };
    let mut views = Vec::with_capacity(data.len());
    for entry in &data {
        let (kind, shape) = view(entry);
        views.push((entry.0.as_str(), TensorView::new(kind, shape, &entry.1).map_err(|e| bad(&e))?));
    }
    let position = serde_json::to_string(position).map_err(|e| bad(&e))?;
    let metadata = HashMap::from([(POSITION.to_owned(), position)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| bad(&e))?;
    replace(path, &bytes)
}

/// Puts `bytes` at `path` so that there is the old file or the new one, whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let partial = path.with_extension("partial");
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&partial, path)).map_err(|reason| {
        // What could not be completed is not left behind; the error that matters is the first.
        let _ = fs::remove_file(&partial);
        TrainError::io(path, "write")(reason)
    })
}

/// Reads a checkpoint, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Checkpoint>, TrainError> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(TrainError::io(path, "read"))?,
    };
    let bad = |reason: String| TrainError::BadCheckpoint { path: path.to_owned(), reason };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
    let position = header.metadata().as_ref().and_then(|metadata| metadata.get(POSITION));
    let position = position.ok_or_else(|| bad("it has no position".into()))?;
    let position: Position = serde_json::from_str(position).map_err(|e| bad(e.to_string()))?;
    if position.format != FORMAT {
        return Err(bad(format!("its format is {:?}", position.format)));
    }
    let mut checkpoint = Checkpoint { position, ..Checkpoint::default() };
    for (name, view) in SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?.tensors() {
        let (numbers, rest) = (view.data().as_chunks::<4>().0, view.data().as_chunks::<8>().0);
        match view.dtype() {
            Dtype::F32 => {
                checkpoint.tensors.push((name, numbers.iter().map(|&value| f32::from_le_bytes(value)).collect()))
            }
            Dtype::U64 if name == COUNTS => {
                checkpoint.counts = rest.iter().map(|&value| u64::from_le_bytes(value)).collect()
            }
            other => return Err(bad(format!("{name} holds {other:?}"))),
        }
    }
    Ok(Some(checkpoint))
}

/// Puts a checkpoint's values into `tensors`.
pub(super) fn restore(
    path: &Path,
    from: &[(String, Vec<f32>)],
    tensors: &[(String, Tensor)],
) -> Result<(), TrainError> {
    let bad = |reason: String| TrainError::BadCheckpoint { path: path.to_owned(), reason };
    let _guard = tch::no_grad_guard();
    for (name, tensor) in tensors {
        let found = from.iter().find(|(other, _)| other == name).ok_or_else(|| bad(format!("it has no {name}")))?;
        if found.1.len() != tensor.numel() {
            return Err(bad(format!("{name} has {} numbers instead of {}", found.1.len(), tensor.numel())));
        }
        tensor.shallow_clone().f_copy_(&Tensor::f_from_slice(&found.1)?.f_view(tensor.size().as_slice())?)?;
    }
    Ok(())
}
