//! `eddyline train`: flags → a [`Plan`]; training itself is another program's ([`crate::train::launch`]).

use super::configuration::ConfigArgs;
use super::failure::usage;
use super::{Terminal, Trainer, signals, stdout};
use crate::config::{Config, EmbeddingMethod};
use crate::learn::LogFormat;
use crate::model::algorithm::Algorithm;
use crate::train::options::{self, Hyperparameters, Plan, Subject};
use crate::train::{Summary, launch};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Train embeddings of users and items, and policies over them, on libtorch
#[derive(Debug, Args)]
#[command(
    after_help = "A training that was stopped goes on when it is started again with the same flags and configuration.\n\n\
                        Example: eddyline train embeddings log.csv --model-dir model && \
                        eddyline train ddpg log.csv --model-dir model\n\nDocumentation: docs/train.md."
)]
pub(super) struct TrainArgs {
    #[command(subcommand)]
    subject: SubjectArgs,
}

#[derive(Debug, Subcommand)]
enum SubjectArgs {
    /// Tables of users and items by a two-tower network (DSSM): the first step
    Embeddings(EmbeddingsArgs),
    /// Top-k off-policy REINFORCE
    Reinforce(ReinforceArgs),
    /// Deep deterministic policy gradient
    Ddpg(DdpgArgs),
    /// Batch-constrained deep Q-learning
    Bcq(BcqArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The log: CSV, as eddyline prepare writes it, or any that the configuration describes
    #[arg(value_name = "DATA")]
    data: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// Times through the training parts [default: 10 for embeddings, else 100]
    #[arg(long, value_name = "COUNT")]
    epochs: Option<String>,
    /// Step size of Adam [default: 5e-4 for embeddings, else 1e-5]
    #[arg(long, value_name = "NUMBER")]
    lr: Option<String>,
    /// Samples a step [default: 128 for reinforce, else 2048]
    #[arg(long, value_name = "COUNT")]
    batch: Option<String>,
    /// Everything random follows from it [default: 1]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<String>,
    /// Hold out a twentieth of the samples, and stop after so many epochs without a better metric on them
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<String>,
    /// Where tensors are: cpu, cuda or cuda:N [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Threads of libtorch [default: one a core]
    #[arg(long, value_name = "COUNT")]
    threads: Option<String>,
    /// Time between checkpoints; there is one after every epoch, too [default: 5m]
    #[arg(long, value_name = "DURATION")]
    checkpoint: Option<String>,
    /// Begin anew where there is a checkpoint; new embeddings remove the directory's policies. Given once: what it began goes on
    /// without it
    #[arg(long)]
    restart: bool,
    /// Where TensorBoard's event files go, or none [default: tensorboard in the model directory]
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EmbeddingsArgs {
    #[command(flatten)]
    run: RunArgs,
    /// d, the embedding size [default: 32]
    #[arg(long, value_name = "NUMBER")]
    dim: Option<String>,
    /// Two towers (dssm), or vectors of items alone, of what follows what, in which DDPG and BCQ can rank (spectral)
    /// [default: dssm]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// What dssm minimises: cosine or bce [default: cosine]
    #[arg(long, value_name = "LOSS")]
    loss: Option<String>,
}

#[derive(Debug, Args)]
struct PolicyArgs {
    /// H: items of a history [default: 10]
    #[arg(long, value_name = "NUMBER")]
    history: Option<String>,
    /// h: width of the hidden layers [default: 64]
    #[arg(long, value_name = "NUMBER")]
    hidden: Option<String>,
    /// γ, the discount of later rewards, 0 to 1 [default: 0.99]
    #[arg(long, value_name = "NUMBER")]
    gamma: Option<String>,
}

/// The flag, the key of the configuration that it stands for, and the value if it is given.
type Flag<'a> = (&'static str, &'static str, &'a Option<String>);

impl PolicyArgs {
    fn flags(&self) -> [Flag<'_>; 3] {
        let PolicyArgs { history, hidden, gamma } = self;
        [
            ("--history", "train.history", history),
            ("--hidden", "train.hidden", hidden),
            ("--gamma", "train.gamma", gamma),
        ]
    }
}

#[derive(Debug, Args)]
struct ReinforceArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// K of the top-K correction: the length of the lists that the policy is for; 1 turns it off [default: 10]
    #[arg(long, value_name = "NUMBER")]
    top_k: Option<String>,
    /// The most that an importance weight counts [default: 2]
    #[arg(long, value_name = "NUMBER")]
    weight_clip: Option<String>,
    /// The gap between events that ends a session [default: 1h]
    #[arg(long, value_name = "DURATION")]
    session_gap: Option<String>,
}

#[derive(Debug, Args)]
struct DdpgArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// τ, how far the target networks follow at each step, 0 to 1 [default: 0.001]
    #[arg(long, value_name = "NUMBER")]
    tau: Option<String>,
    /// How much the actor is kept to the log's actions, as in TD3+BC, whose α is 1 through this; 0 is DDPG [default: 0]
    #[arg(long, value_name = "NUMBER")]
    behavior_weight: Option<String>,
}

#[derive(Debug, Args)]
struct BcqArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// τ, how far the target networks follow at each step, 0 to 1 [default: 0.005]
    #[arg(long, value_name = "NUMBER")]
    tau: Option<String>,
    /// λ, how much the lesser of the two critics counts, 0 to 1 [default: 0.75]
    #[arg(long, value_name = "NUMBER")]
    lambda: Option<String>,
    /// n: actions sampled for a target [default: 10]
    #[arg(long, value_name = "NUMBER")]
    actions: Option<String>,
    /// Weight of the KL term in the generator's loss [default: 0.5]
    #[arg(long, value_name = "NUMBER")]
    kl_weight: Option<String>,
}

pub(super) fn run(args: &TrainArgs, terminal: &Terminal, trainer: Option<Trainer>) -> Result<()> {
    let plan = plan(args)?;
    let Some(Trainer(train)) = trainer else {
        return Err(launch::launch(std::env::args_os().skip(1)).into());
    };
    let stop = signals::stop_flag()?;
    let summary = train(&plan, &terminal.progress, &stop);
    terminal.progress.finish();
    tell(&summary?, args.run().json)
}

impl TrainArgs {
    fn run(&self) -> &RunArgs {
        match &self.subject {
            SubjectArgs::Embeddings(args) => &args.run,
            SubjectArgs::Reinforce(args) => &args.run,
            SubjectArgs::Ddpg(args) => &args.run,
            SubjectArgs::Bcq(args) => &args.run,
        }
    }

    fn subject(&self) -> Subject {
        match &self.subject {
            SubjectArgs::Embeddings(_) => Subject::Embeddings,
            SubjectArgs::Reinforce(_) => Subject::Policy(Algorithm::Reinforce),
            SubjectArgs::Ddpg(_) => Subject::Policy(Algorithm::Ddpg),
            SubjectArgs::Bcq(_) => Subject::Policy(Algorithm::Bcq),
        }
    }

    /// Every flag that stands for a key, which says what is right.
    fn flags(&self) -> Vec<Flag<'_>> {
        let RunArgs { epochs, lr, batch, seed, patience, device, threads, checkpoint, tensorboard, .. } = self.run();
        let mut flags = vec![
            ("--epochs", "train.epochs", epochs),
            ("--lr", "train.lr", lr),
            ("--batch", "train.batch", batch),
            ("--seed", "train.seed", seed),
            ("--patience", "train.patience", patience),
            ("--device", "train.device", device),
            ("--threads", "train.threads", threads),
            ("--checkpoint", "train.checkpoint", checkpoint),
            ("--tensorboard", "train.tensorboard", tensorboard),
        ];
        match &self.subject {
            SubjectArgs::Embeddings(EmbeddingsArgs { run: _, dim, method, loss }) => flags.extend([
                ("--dim", "train.dim", dim),
                ("--method", "train.method", method),
                ("--loss", "train.loss", loss),
            ]),
            SubjectArgs::Reinforce(ReinforceArgs { run: _, policy: common, top_k, weight_clip, session_gap }) => {
                flags.extend(common.flags());
                flags.extend([
                    ("--top-k", "train.top_k", top_k),
                    ("--weight-clip", "train.weight_clip", weight_clip),
                    ("--session-gap", "train.session_gap", session_gap),
                ]);
            }
            SubjectArgs::Ddpg(DdpgArgs { run: _, policy: common, tau, behavior_weight }) => {
                flags.extend(common.flags());
                flags.extend([
                    ("--tau", "train.tau", tau),
                    ("--behavior-weight", "train.behavior_weight", behavior_weight),
                ]);
            }
            SubjectArgs::Bcq(BcqArgs { run: _, policy: common, tau, lambda, actions, kl_weight }) => {
                flags.extend(common.flags());
                flags.extend([
                    ("--tau", "train.tau", tau),
                    ("--lambda", "train.lambda", lambda),
                    ("--actions", "train.actions", actions),
                    ("--kl-weight", "train.kl_weight", kl_weight),
                ]);
            }
        }
        flags
    }
}

fn plan(args: &TrainArgs) -> Result<Plan> {
    let (run, subject, flags) = (args.run(), args.subject(), args.flags());
    let mut layers = run.config.layers()?;
    layers.flags.extend(flags.iter().filter_map(|(flag, key, value)| Some((*flag, *key, (*value).clone()?))));
    let config = Config::load(&layers)?.config;
    if subject == Subject::Embeddings && config.train.method == EmbeddingMethod::Spectral {
        let steps = ["--epochs", "--lr", "--batch", "--patience", "--loss"];
        if let Some((flag, ..)) = flags.iter().find(|(flag, _, value)| value.is_some() && steps.contains(flag)) {
            return Err(usage!(
                "{flag} is of --method dssm; spectral vectors are computed, not trained in steps: leave it out"
            ));
        }
    }
    let dir = model_dir(&config)?;
    let train = &config.train;
    Ok(Plan {
        data: run.data.clone(),
        format: LogFormat::of(&config).with_context(|| run.data.display().to_string())?,
        parameters: Hyperparameters::of(subject, &config),
        epochs: options::epochs(subject, train),
        patience: train.patience,
        device: train.device,
        threads: train.threads,
        checkpoint: std::time::Duration::from_millis(train.checkpoint.ms()),
        restart: run.restart,
        tensorboard: train.tensorboard.dir(&dir),
        dir,
    })
}

fn model_dir(config: &Config) -> Result<PathBuf> {
    config.model.dir.clone().ok_or_else(|| usage!("--model-dir DIR is missing: where embeddings and policies go"))
}

fn tell(summary: &Summary, json: bool) -> Result<()> {
    if json {
        return stdout::write(format!("{}\n", serde_json::to_string(summary)?).as_bytes());
    }
    let mut text = format!("{:<19}{}\n", "trained", summary.subject);
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<19}{value}\n"));
    row("directory", summary.dir.clone());
    let early = if summary.stopped_early { ", stopped early" } else { "" };
    row("epochs", format!("{}{early}", summary.epochs));
    if let Some(metrics) = summary.metrics.as_object() {
        if let Some(epoch) = metrics.get("epoch").filter(|&epoch| *epoch != summary.epochs) {
            row("written", format!("epoch {epoch}, the best"));
        }
        let told = metrics.iter().filter(|(name, _)| !matches!(name.as_str(), "epoch" | "steps" | "samples"));
        told.for_each(|(name, value)| {
            row(name, value.as_f64().map_or_else(|| value.to_string(), |v| format!("{v:.6}")))
        });
    }
    if summary.batches > 0 {
        row("elapsed", format!("{:.2} s, {:.0} samples/s", summary.elapsed_s, summary.samples_per_s));
    } else {
        row("elapsed", "nothing was left to train; give more --epochs, or --restart to begin anew".into());
    }
    if let Some(hash) = &summary.content_hash {
        row("content hash", hash.clone());
    }
    stdout::write(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_TOML, Device, EmbeddingLoss};
    use crate::train::options::{
        BcqParameters, DdpgParameters, EmbeddingParameters, Own, PolicyParameters, ReinforceParameters,
        SpectralParameters,
    };
    use clap::{Args, FromArgMatches};

    fn arguments(flags: &[&str]) -> TrainArgs {
        let command = TrainArgs::augment_args(clap::Command::new("train"));
        let arguments = ["train"].iter().chain(flags).chain(&["log.csv", "--model-dir", "m"]);
        let matches = command.try_get_matches_from(arguments).expect("it is right");
        TrainArgs::from_arg_matches(&matches).expect("clap checked it")
    }

    fn parsed(flags: &[&str]) -> Plan {
        plan(&arguments(flags)).expect("it is right")
    }

    #[test]
    fn without_flags_the_hyperparameters_are_the_contracts() {
        let policy = || PolicyParameters { history: 10, hidden: 64, gamma: 0.99, rewards: vec![1, 2, 2, 3] };
        let reinforce = ReinforceParameters { top_k: 10, weight_clip: 2.0, session_gap_ms: 3_600_000 };
        let bcq = BcqParameters { tau: 0.005, phi: 0.05, lambda: 0.75, actions: 10, kl_weight: 0.5 };
        for (name, epochs, batch, lr, own) in [
            (
                "embeddings",
                10,
                2048,
                5e-4,
                Own::Embeddings(EmbeddingParameters { dim: 32, loss: EmbeddingLoss::Cosine }),
            ),
            ("reinforce", 100, 128, 1e-5, Own::Reinforce(policy(), reinforce)),
            ("ddpg", 100, 2048, 1e-5, Own::Ddpg(policy(), DdpgParameters { tau: 0.001, behavior_weight: 0.0 })),
            ("bcq", 100, 2048, 1e-5, Own::Bcq(policy(), bcq)),
        ] {
            let plan = parsed(&[name]);
            assert_eq!(plan.parameters, Hyperparameters { seed: 1, batch, lr, held_out: 0.0, own }, "{name}");
            assert_eq!((plan.epochs, plan.patience, plan.threads), (epochs, None, None), "{name}");
            assert_eq!((plan.device, plan.checkpoint.as_secs()), (Device::Cpu, 300));
            assert_eq!(plan.tensorboard, Some("m/tensorboard".into()));
        }
    }

    #[test]
    fn flags_are_heard() {
        let plan =
            parsed(&["bcq", "--lambda", "0.5", "--patience", "3", "--device", "cuda:1", "--tensorboard", "none"]);
        let Own::Bcq(_, own) = &plan.parameters.own else { panic!("{plan:?}") };
        assert_eq!((own.lambda, plan.patience, plan.parameters.held_out), (0.5, Some(3), 0.05));
        assert_eq!((plan.device, plan.tensorboard), (Device::Cuda(1), None));
        let plan = parsed(&["embeddings", "--method", "spectral", "--dim", "8"]);
        assert_eq!(plan.parameters.own, Own::Spectral(SpectralParameters { dim: 8 }));
        let plan = parsed(&["ddpg", "--checkpoint", "500ms", "--behavior-weight", "4"]);
        assert!(
            matches!(&plan.parameters.own, Own::Ddpg(_, own) if own.behavior_weight.to_bits() == 4.0_f64.to_bits())
        );
        assert_eq!(plan.checkpoint, std::time::Duration::from_millis(500));
    }

    #[test]
    fn every_flag_stands_for_a_key_of_its_name() {
        for subject in ["embeddings", "reinforce", "ddpg", "bcq"] {
            for (flag, key, _) in arguments(&[subject]).flags() {
                assert_eq!(format!("train.{}", flag.trim_start_matches('-').replace('-', "_")), key);
            }
        }
    }

    #[test]
    fn what_help_calls_the_default_is_the_configurations() {
        let defaults: toml::Table = DEFAULT_TOML.parse().expect("a test reads it");
        let command = TrainArgs::augment_args(clap::Command::new("train"));
        let mut compared = 0;
        for subject in ["embeddings", "reinforce", "ddpg", "bcq"] {
            let subcommand = command.find_subcommand(subject).expect("it is there");
            for (flag, key, _) in arguments(&[subject]).flags() {
                let argument =
                    subcommand.get_arguments().find(|a| a.get_long() == Some(&flag[2..])).expect("it is there");
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let told = help.split_once("[default: ").map(|(_, told)| told.trim_end_matches(']'));
                let value = &defaults["train"][&key["train.".len()..]];
                match value.as_str() {
                    // It depends on what is trained.
                    Some("auto" | "off") => continue,
                    Some(word) => assert_eq!(told, Some(word), "{subject} {flag}"),
                    None => {
                        let number = value.as_float().or(value.as_integer().map(|number| number as f64));
                        assert_eq!(told.and_then(|told| told.parse().ok()), number, "{subject} {flag}");
                    }
                }
                compared += 1;
            }
        }
        assert_eq!(compared, 4 * 3 + 3 + 3 * 3 + 3 + 1 + 3);
    }

    #[test]
    fn the_configuration_is_heard_below_flags() {
        let config = ["--set", "train.lr=1e-3", "--set", "train.epochs=7", "--set", "train.tau=0.5"];
        let plan = parsed(&[&["ddpg", "--epochs", "3"], &config[..]].concat());
        let Own::Ddpg(_, own) = &plan.parameters.own else { panic!("{plan:?}") };
        assert_eq!((plan.parameters.lr, plan.epochs, own.tau), (1e-3, 3, 0.5));
        // What a policy's steps are told does not keep embeddings from being computed without any.
        let plan = parsed(&[&["embeddings", "--method", "spectral"], &config[..]].concat());
        assert_eq!(plan.parameters.own, Own::Spectral(SpectralParameters { dim: 32 }));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_flag() {
        let told = |flags: &[&str]| format!("{:#}", plan(&arguments(flags)).expect_err("it is wrong"));
        let wrong = told(&["ddpg", "--gamma", "1.5"]);
        assert_eq!(wrong, "--gamma: train.gamma = \"1.5\": expected a number from 0 to 1");
        assert!(told(&["bcq", "--batch", "3"]).contains("expected \"auto\" or a whole number from 4 to"));
        assert!(told(&["bcq", "--epochs", "3", "--set", "train.lr=nan"]).contains("train.lr = \"nan\""));
    }
}
