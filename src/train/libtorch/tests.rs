//! Losses, gradients and steps against plain PyTorch, which computes them from the papers in its own way
//! (`tests/train/gradients.py`). Needs a Python with torch; name it in `EDDYLINE_TORCH_PYTHON`, as `scripts/with-libtorch`
//! does, otherwise the tests say SKIP.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Tensor};

use super::bcq::{Bcq, Noise};
use super::ddpg::Ddpg;
use super::embeddings::{Embeddings, Pairs};
use super::network::{Initial, Parameters};
use super::publish::values;
use super::random::{Draws, Stream};
use super::reinforce::Reinforce;
use super::spectral::spectral;
use super::states::{Samples, States};
use eddyline::config::Config;
use eddyline::learn::{Feature, Interactions};
use eddyline::model::weights::Embedding;
use eddyline::train::options::{
    BcqParameters, DdpgParameters, EmbeddingLoss, EmbeddingParameters, ReinforceParameters,
};

const USERS: usize = 5;
const ITEMS: usize = 23;
const DIM: usize = 8;
const HISTORY: usize = 3;
const HIDDEN: i64 = 16;
const BATCH: usize = 40;
const STEPS: i64 = 4;
const LR: f64 = 0.003;

/// What the script is given.
#[derive(Default)]
struct Case {
    tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)>,
    options: HashMap<String, String>,
}

impl Case {
    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push((name.into(), shape.into(), Dtype::F32, bytes));
    }

    fn integers(&mut self, name: &str, shape: &[usize], values: impl IntoIterator<Item = i64>) {
        let bytes = values.into_iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push((name.into(), shape.into(), Dtype::I64, bytes));
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) {
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        self.floats(name, &shape, &values(tensor).unwrap());
    }

    fn network(&mut self, prefix: &str, parameters: &Parameters) {
        parameters.iter().for_each(|(key, tensor)| self.tensor(&format!("{prefix}{key}"), tensor));
    }

    fn gradients(&mut self, prefix: &str, parameters: &Parameters, gradients: &[Tensor]) {
        assert_eq!(parameters.views().len(), gradients.len());
        let of = parameters.iter().zip(gradients);
        of.for_each(|((key, _), gradient)| self.tensor(&format!("grad.{prefix}{key}"), gradient));
    }

    fn option(&mut self, name: &str, value: f64) {
        self.options.insert(name.into(), value.to_string());
    }

    /// Has the script judge; `false` where there is no PyTorch.
    fn judge(mut self, algorithm: &str) {
        let Some(python) = std::env::var_os("EDDYLINE_TORCH_PYTHON") else {
            eprintln!("SKIP: EDDYLINE_TORCH_PYTHON names no Python with torch");
            return;
        };
        self.option("steps", STEPS as f64);
        self.option("lr", LR);
        let views = self
            .tensors
            .iter()
            .map(|(name, shape, kind, bytes)| (name.as_str(), TensorView::new(*kind, shape.clone(), bytes).unwrap()));
        let bytes = safetensors::serialize(views, Some(self.options.clone())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("case.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/gradients.py");
        let output = Command::new(python).arg(script).arg(algorithm).arg(&path).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
        eprintln!("{}", String::from_utf8_lossy(&told).trim());
    }
}

fn random(tensor: u32, count: usize, bound: f32) -> Vec<f32> {
    let mut values = vec![0.0; count];
    Draws::new(99, Stream::Negatives, tensor).fill_uniform(bound, &mut values);
    values
}

fn index(tensor: u32, count: usize, limit: usize) -> Vec<usize> {
    let draws = Draws::new(99, Stream::Actions, tensor);
    (0..count as u64).map(|at| draws.block(at)[0] as usize % limit).collect()
}

/// Users' and items' tables, the padding row last, as a state_dict holds it.
fn tables() -> [Embedding; 2] {
    let users = Embedding { rows: USERS, dim: DIM, data: random(1, USERS * DIM, 0.7) };
    let mut items = Embedding { rows: ITEMS + 1, dim: DIM, data: random(2, (ITEMS + 1) * DIM, 0.7) };
    items.data[ITEMS * DIM..].fill(0.3);
    [users, items]
}

/// A batch with padding in histories, ends of sessions, and an unknown item among the actions.
fn case() -> (Case, States, Samples) {
    let [users, items] = tables();
    let states = States::new(&users, &items, HISTORY, Device::Cpu).unwrap();
    let user = index(3, BATCH, USERS);
    let action = index(4, BATCH, ITEMS + 1);
    let mut history = index(5, BATCH * HISTORY, ITEMS);
    history.iter_mut().step_by(HISTORY).step_by(3).for_each(|oldest| *oldest = ITEMS);
    let reward: Vec<f32> = index(6, BATCH, 3).iter().map(|&reward| reward as f32 + 1.0).collect();
    let discount: Vec<f32> = index(7, BATCH, 4).iter().map(|&end| if end == 0 { 0.0 } else { 0.99 }).collect();
    let mut rows = Vec::new();
    for at in 0..BATCH {
        rows.push(user[at] as i32);
        rows.extend(history[at * HISTORY..][..HISTORY].iter().map(|item| (USERS + item) as i32));
        rows.extend([(USERS + action[at]) as i32, user[at] as i32]);
    }
    let mut case = Case::default();
    case.floats("input.users", &[USERS, DIM], &users.data);
    let [_, table] = states.tables().unwrap();
    case.tensor("input.items", &table);
    case.integers("input.user", &[BATCH], user.iter().map(|&user| user as i64));
    case.integers("input.history", &[BATCH, HISTORY], history.iter().map(|&item| item as i64));
    case.integers("input.action", &[BATCH], action.iter().map(|&item| item as i64));
    case.floats("input.reward", &[BATCH], &reward);
    case.floats("input.discount", &[BATCH], &discount);
    let actions = action.into_iter().map(|item| item as i64).collect();
    (case, states, Samples::of(rows, actions, reward, discount))
}

fn initial() -> Initial {
    Initial::new(11, Device::Cpu)
}

#[test]
fn ddpg_is_the_papers() {
    is_ddpg(0.0);
}

#[test]
fn ddpg_that_keeps_to_the_log_is_the_papers() {
    is_ddpg(0.7);
}

fn is_ddpg(behavior_weight: f64) {
    let (mut case, states, samples) = case();
    let options = DdpgParameters { tau: 0.05, behavior_weight };
    case.option("tau", options.tau);
    case.option("behavior_weight", options.behavior_weight);
    let mut ddpg = Ddpg::new(states, HIDDEN, LR, options, &mut initial()).unwrap();
    case.network("before.actor.", &ddpg.actor);
    case.network("before.critic.", &ddpg.critic);
    let batch = ddpg.states.gather(&samples).unwrap();
    let (loss, gradients) = ddpg.critic_loss(&samples, &batch).unwrap();
    case.tensor("loss.critic", &loss);
    case.gradients("critic.", &ddpg.critic, &gradients);
    let (loss, gradients) = ddpg.actor_loss(&batch).unwrap();
    case.tensor("loss.actor", &loss);
    case.gradients("actor.", &ddpg.actor, &gradients);
    (1..=STEPS).for_each(|step| drop(ddpg.step(&samples, step).unwrap()));
    case.network("after.actor.", &ddpg.actor);
    case.network("after.critic.", &ddpg.critic);
    case.network("after.actor_target.", &ddpg.actor_target);
    case.network("after.critic_target.", &ddpg.critic_target);
    case.judge("ddpg");
}

#[test]
fn reinforce_is_the_papers() {
    let (mut case, states, samples) = case();
    let options = ReinforceParameters { weight_clip: 1.1, ..ReinforceParameters::of(&Config::default().train) };
    case.option("top_k", options.top_k.into());
    case.option("weight_clip", options.weight_clip);
    let mut policy = Reinforce::new(states, HIDDEN, LR, options, &mut initial()).unwrap();
    case.network("before.", &policy.parameters);
    let gradients = policy.gradients(&samples).unwrap();
    case.tensor("loss.policy", &gradients.policy_loss);
    case.tensor("loss.behavior", &gradients.behavior_loss);
    case.tensor("loss.weight", &gradients.weight);
    case.gradients("", &policy.parameters, &gradients.all);
    (1..=STEPS).for_each(|step| drop(policy.step(&samples, step).unwrap()));
    case.network("after.", &policy.parameters);
    case.judge("reinforce");
}

#[test]
fn bcq_is_the_papers() {
    let (mut case, states, samples) = case();
    let options = BcqParameters { tau: 0.05, actions: 6, ..BcqParameters::of(&Config::default().train) };
    for (name, value) in [
        ("tau", options.tau),
        ("phi", options.phi),
        ("lambda", options.lambda),
        ("actions", options.actions as f64),
        ("kl_weight", options.kl_weight),
    ] {
        case.option(name, value);
    }
    let noise = Noise::draw(5, 1, 0, BATCH, DIM, options.actions);
    case.floats("input.epsilon", &[BATCH, 2 * DIM], &noise.generator);
    case.floats("input.z_targets", &[BATCH * options.actions, 2 * DIM], &noise.targets);
    case.floats("input.z_actions", &[BATCH, 2 * DIM], &noise.actions);
    let mut bcq = Bcq::new(states, HIDDEN, LR, options, &mut initial()).unwrap();
    case.network("before.generator.", &bcq.generator);
    case.network("before.perturbator.", &bcq.perturbator);
    case.network("before.critics.", &bcq.critics);
    let batch = bcq.states.gather(&samples).unwrap();
    let (loss, gradients) = bcq.generator_loss(&batch, &noise).unwrap();
    case.tensor("loss.generator", &loss);
    case.gradients("generator.", &bcq.generator, &gradients);
    let (loss, gradients) = bcq.critic_loss(&samples, &batch, &noise).unwrap();
    case.tensor("loss.critic", &loss);
    case.gradients("critics.", &bcq.critics, &gradients);
    let (loss, gradients) = bcq.perturbator_loss(&batch, &noise).unwrap();
    case.tensor("loss.perturbator", &loss);
    case.gradients("perturbator.", &bcq.perturbator, &gradients);
    (1..=STEPS).for_each(|step| drop(bcq.step(&samples, &noise, step).unwrap()));
    case.network("after.generator.", &bcq.generator);
    case.network("after.perturbator.", &bcq.perturbator);
    case.network("after.critics.", &bcq.critics);
    case.network("after.perturbator_target.", &bcq.perturbator_target);
    case.network("after.critics_target.", &bcq.critics_target);
    case.judge("bcq");
}

/// A log of which only ids and features matter.
fn featured() -> Interactions {
    let feature = |name, values: usize, of: usize, tensor| Feature {
        name,
        values: (0..values as u64).collect(),
        index: index(tensor, of, values + 1).into_iter().map(|value| value as u32).collect(),
    };
    Interactions {
        users: (0..USERS as u64).collect(),
        items: (0..ITEMS as u64).collect(),
        catalogue: ITEMS,
        offsets: vec![0; USERS + 1],
        item: vec![],
        behavior: vec![],
        time: vec![],
        user_features: vec![
            feature("sex", 2, USERS, 20),
            feature("age", 4, USERS, 21),
            feature("pur_power", 3, USERS, 22),
        ],
        item_features: vec![
            feature("category", 6, ITEMS, 23),
            feature("shop", 5, ITEMS, 24),
            feature("brand", 4, ITEMS, 25),
        ],
        fingerprint: String::new(),
        counts: Default::default(),
    }
}

fn pairs(tensor: u32) -> Pairs {
    // The last rows are padding rows.
    let rows = |tensor, count, limits: [usize; 4]| {
        std::array::from_fn(|table| {
            index(tensor + table as u32, count, limits[table]).into_iter().map(|row| row as i32).collect()
        })
    };
    Pairs { users: rows(tensor, BATCH, [USERS, 3, 5, 4]), items: rows(tensor + 4, 2 * BATCH, [ITEMS, 7, 6, 5]) }
}

fn input(case: &mut Case, prefix: &str, pairs: &Pairs) {
    for (name, rows) in [("user", &pairs.users), ("item", &pairs.items)] {
        for (table, rows) in rows.iter().enumerate() {
            let name = format!("{prefix}{name}.{table}");
            case.integers(&name, &[rows.len()], rows.iter().map(|&row| row.into()));
        }
    }
}

fn towers(case: &mut Case, prefix: &str, embeddings: &Embeddings) {
    for (name, tensor) in embeddings.named().unwrap() {
        case.tensor(&format!("{prefix}{name}"), &tensor);
    }
}

fn embeddings_are_dssm(loss: EmbeddingLoss) {
    let mut case = Case::default();
    let log = featured();
    let options = EmbeddingParameters { dim: DIM, loss };
    let mut embeddings = Embeddings::new(&log, options, LR, &mut initial()).unwrap();
    case.option("bce", if loss == EmbeddingLoss::Bce { 1.0 } else { 0.0 });
    let first = pairs(30);
    input(&mut case, "input.", &first);
    towers(&mut case, "before.", &embeddings);
    let gradients = embeddings.gradients(&first).unwrap();
    case.tensor("loss.loss", &gradients.loss);
    for (name, tensor) in embeddings.named_gradients(&gradients).unwrap() {
        case.tensor(&format!("grad.{name}"), &tensor);
    }
    embeddings.reset_running().unwrap();
    for step in 1..=STEPS {
        // The first steps leave most rows alone, so that rows rest after they were touched, and before.
        let batch = pairs(40 + 10 * (step as u32 % 3));
        input(&mut case, &format!("input.step{}.", step - 1), &batch);
        embeddings.step(&batch, step).unwrap();
    }
    towers(&mut case, "after.", &embeddings);
    case.judge("embeddings");
}

#[test]
fn embeddings_are_dssm_with_the_cosine_loss() {
    embeddings_are_dssm(EmbeddingLoss::Cosine);
}

#[test]
fn embeddings_are_dssm_with_cross_entropy() {
    embeddings_are_dssm(EmbeddingLoss::Bce);
}

#[test]
fn features_that_a_log_lacks_may_be_left_out() {
    let log =
        Interactions { user_features: vec![], item_features: featured().item_features[..1].to_vec(), ..featured() };
    let options = EmbeddingParameters { dim: DIM, loss: EmbeddingLoss::Cosine };
    let mut of_used = Embeddings::new(&log, options.clone(), LR, &mut initial()).unwrap();
    let mut of_all = Embeddings::new(&log, options, LR, &mut initial()).unwrap();
    of_all.use_all_tables();
    for step in 1..=STEPS {
        let mut batch = pairs(40 + 10 * (step as u32 % 3));
        batch.users[1..].iter_mut().chain(&mut batch.items[2..]).for_each(|rows| rows.fill(0));
        of_used.step(&batch, step).unwrap();
        of_all.step(&batch, step).unwrap();
    }
    for ((name, used), (_, all)) in of_used.named().unwrap().iter().zip(of_all.named().unwrap()) {
        let off = (used - all).abs().max().double_value(&[]);
        assert!(off < 1e-4, "{name} is off by {off}");
    }
}

#[test]
fn spectral_vectors_are_those_of_what_follows_what() {
    let mut case = Case::default();
    // One user has a single event, which follows nothing, and one has none.
    let lengths = [30, 1, 17, 0, 24];
    let mut offsets = vec![0];
    lengths.iter().for_each(|length| offsets.push(offsets.last().unwrap() + length));
    let item: Vec<u32> = index(50, offsets[USERS], ITEMS).into_iter().map(|item| item as u32).collect();
    let log = Interactions { offsets, item, ..featured() };
    let rows = (0..USERS).flat_map(|user| log.train(user).map(move |row| (user, row)));
    let trained: Vec<i64> = rows.flat_map(|(user, row)| [user as i64, log.item[row].into()]).collect();
    case.integers("input.events", &[trained.len() / 2, 2], trained);
    assert!(spectral(&log, DIM, 3, |product| product < 2).unwrap().is_none(), "it was told to stop");
    let found = spectral(&log, DIM, 3, |_| true).unwrap().unwrap();
    assert_eq!((found.items.rows, found.items.dim), (ITEMS + 1, DIM));
    case.floats("after.items", &[ITEMS + 1, DIM], &found.items.data);
    case.floats("after.probability", &[1], &[found.probability as f32]);
    case.judge("spectral");
}
