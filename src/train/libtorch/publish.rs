//! What a training leaves in the model directory.
//!
//! | file | what |
//! |---|---|
//! | `tianchi_{user,item}_embeddings.npy`, `user_map.json`, `item_map.json` | of `train embeddings` |
//! | `model_{reinforce,ddpg,bcq}.pt` | of the policies: the whole state_dict |
//! | `model_{reinforce,ddpg,bcq}.safetensors` | the same tensors, for other programs |
//! | `history_NAME.jsonl` | one object an epoch |
//! | `manifest.json` | for each of them: what it was trained on, with what, and what came out |
//!
//! Nothing in them depends on the time or on the run: the same training writes the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use super::checkpoint::Position;
use super::error::TrainError;
use super::network::floats;
use eddyline::model::algorithm::Algorithm;
use eddyline::model::directory::{MANIFEST, ModelDirectory, Tables};
use eddyline::model::state_dict::{StateDict, Tensor as Plain};
use eddyline::model::weights::Embedding;
use eddyline::train::options::Subject;

/// The name of a training's checkpoint.
pub(super) fn checkpoint_path(dir: &Path, subject: Subject) -> PathBuf {
    dir.join(format!("checkpoint_{subject}.safetensors"))
}

/// What a training under way holds open.
pub(super) fn lock_path(dir: &Path, subject: Subject) -> PathBuf {
    dir.join(format!(".train_{subject}.lock"))
}

/// What says that new embeddings, which are under way, may take the place of policies.
pub(super) fn replaced_path(dir: &Path) -> PathBuf {
    dir.join("replacing_policies")
}

/// Policies that stand in a directory.
pub(super) fn policies_in(dir: &Path) -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| dir.join(algorithm.file_name()).exists()).collect()
}

/// The tables, and what they were trained on. The directory's policies and their checkpoints go, being of other tables.
pub(super) fn tables(dir: &Path, tables: &Tables, position: &Position) -> Result<(), TrainError> {
    let subject = Subject::Embeddings;
    let shapes = json!({
        "user_embeddings": [tables.users.rows, tables.users.dim],
        "item_embeddings": [tables.items.rows, tables.items.dim],
    });
    let obsolete: Vec<PathBuf> = Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| {
            let subject = Subject::Policy(algorithm);
            let safetensors = format!("model_{algorithm}.safetensors");
            [dir.join(algorithm.file_name()), dir.join(safetensors), dir.join(history_name(subject))]
                .into_iter()
                .chain([checkpoint_path(dir, subject)])
        })
        // The last: as long as a policy is there, so is the leave to remove it.
        .chain([replaced_path(dir)])
        .collect();
    let companions = |content_hash: &str| {
        let manifest = Map::from_iter([(subject.name().to_owned(), entry(position, shapes, content_hash))]);
        vec![(history_name(subject), history(position)), (MANIFEST.to_owned(), pretty(&manifest.into()))]
    };
    Ok(tables.save(dir, companions, &obsolete)?)
}

/// A policy's whole state_dict, and what it was trained on.
pub(super) fn policy(
    dir: &Path,
    algorithm: Algorithm,
    state: &[(String, Tensor)],
    position: &Position,
) -> Result<ModelDirectory, TrainError> {
    let mut tensors = StateDict::default();
    let mut shapes = Map::new();
    for (key, tensor) in state {
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        shapes.insert(key.clone(), json!(shape));
        let plain = Plain::new(shape, values(tensor)?);
        let plain =
            plain.ok_or_else(|| TrainError::Diverged { subject: Subject::Policy(algorithm), key: key.clone() })?;
        tensors.push(key.clone(), plain).map_err(|e| eddyline::model::error::ModelError::Weights {
            path: dir.join(algorithm.file_name()),
            reason: Box::new(e.into()),
        })?;
    }
    let safetensors = safetensors(&tensors, dir)?;
    let subject = Subject::Policy(algorithm);
    Ok(ModelDirectory::save_policy(dir, algorithm, tensors, |content_hash| {
        let mut manifest = manifest(dir);
        manifest.insert(subject.name().into(), entry(position, shapes.into(), content_hash));
        vec![
            (format!("model_{algorithm}.safetensors"), safetensors),
            (history_name(subject), history(position)),
            (MANIFEST.to_owned(), pretty(&manifest.into())),
        ]
    })?)
}

/// The numbers of a tensor, wherever it is.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(floats(&tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?).to_vec())
}

/// A table of rows, all of them finite.
pub(super) fn embedding(tensor: &Tensor, subject: Subject, key: &str) -> Result<Embedding, TrainError> {
    let data = values(tensor)?;
    if !data.iter().all(|value| value.is_finite()) {
        return Err(TrainError::Diverged { subject, key: key.to_owned() });
    }
    let size = tensor.size();
    Ok(Embedding { rows: size[0] as usize, dim: size[1] as usize, data })
}

fn safetensors(state: &StateDict, dir: &Path) -> Result<Vec<u8>, TrainError> {
    use safetensors::tensor::{Dtype, TensorView};
    let bad =
        |reason: &dyn std::fmt::Display| TrainError::BadCheckpoint { path: dir.to_owned(), reason: reason.to_string() };
    let bytes = |tensor: &Plain| tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<(&str, Vec<usize>, Vec<u8>)> =
        state.iter().map(|(key, tensor)| (key, tensor.shape().to_vec(), bytes(tensor))).collect();
    let mut views = Vec::with_capacity(data.len());
    for (key, shape, bytes) in &data {
        views.push((*key, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| bad(&e))?));
    }
    safetensors::serialize(views, None).map_err(|e| bad(&e))
}

fn history_name(subject: Subject) -> String {
    format!("history_{subject}.jsonl")
}

fn history(position: &Position) -> Vec<u8> {
    position.history.iter().flat_map(|line| [line.as_bytes(), b"\n"]).flatten().copied().collect()
}

/// What the directory's manifest says of the others.
fn manifest(dir: &Path) -> Map<String, Value> {
    let path = dir.join(MANIFEST);
    let Ok(bytes) = fs::read(&path) else { return Map::new() };
    serde_json::from_slice(&bytes).unwrap_or_else(|reason| {
        tracing::warn!(path = %path.display(), %reason, "the manifest is unreadable and is begun anew");
        Map::new()
    })
}

fn entry(position: &Position, shapes: Value, content_hash: &str) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut entry = json!({
        "eddyline": env!("CARGO_PKG_VERSION"),
        "data": position.data,
        "parameters": parsed(&position.parameters),
        "epochs": position.epoch - 1,
        "metrics": position.written().map(parsed),
        "shapes": shapes,
        "content_hash": content_hash,
    });
    if !position.tables.is_empty() {
        entry["tables"] = json!(position.tables);
    }
    if let Some((metric, epoch)) = position.best {
        entry["best"] = json!({ "epoch": epoch, "held_out": f64::from_bits(metric) });
    }
    entry
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}
