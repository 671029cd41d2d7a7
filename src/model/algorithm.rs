//! The policies that the built-in backend knows (contract, section 4).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{error::excerpt, weights::Policy};

/// Which policy a model directory's `model_*.pt` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Top-k off-policy REINFORCE.
    Reinforce,
    /// Deep deterministic policy gradient.
    Ddpg,
    /// Batch-constrained deep Q-learning.
    Bcq,
}

/// A name that is no algorithm's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an algorithm; choose reinforce, ddpg or bcq")]
pub struct UnknownAlgorithm(String);

impl Algorithm {
    /// All of them, in the order of the contract.
    pub const ALL: [Algorithm; 3] = [Algorithm::Reinforce, Algorithm::Ddpg, Algorithm::Bcq];

    /// The name in configuration, file names and URLs.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Reinforce => "reinforce",
            Algorithm::Ddpg => "ddpg",
            Algorithm::Bcq => "bcq",
        }
    }

    /// The name of its weights in a model directory: `model_ddpg.pt`.
    pub fn file_name(self) -> String {
        format!("model_{}.pt", self.name())
    }
}

impl From<&Policy> for Algorithm {
    fn from(policy: &Policy) -> Algorithm {
        match policy {
            Policy::Reinforce { .. } => Algorithm::Reinforce,
            Policy::Ddpg { .. } => Algorithm::Ddpg,
            Policy::Bcq { .. } => Algorithm::Bcq,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| UnknownAlgorithm(excerpt(name)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{algorithm}\""));
        }
        assert_eq!(
            "DDPG".parse::<Algorithm>().unwrap_err().to_string(),
            "\"DDPG\" is not an algorithm; choose reinforce, ddpg or bcq"
        );
    }
}
