//! Values that are one of a few words.

use super::given::Given;

/// Declares an enum whose variants are written as words in the configuration.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// As the configuration writes it.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl Word for $name {
            fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

/// An enum that is written as a word.
pub(super) trait Word: Sized {
    fn from_word(word: &str) -> Option<Self>;

    fn read(given: &Given) -> Option<Self> {
        Self::from_word(&given.string()?)
    }
}

words! {
    /// What happens to late events (contract, section 2).
    Late {
        /// They are left out of the aggregates.
        Drop = "drop",
        /// They take part from now on.
        Admit = "admit",
    }
}

words! {
    /// Items that are never recommended (contract, section 3).
    Exclude {
        /// All may be recommended.
        None = "none",
        /// Those of the user's sequence.
        Recent = "recent",
    }
}

words! {
    /// What a hit adds to `last_reward` (contract, section 3).
    Reward {
        /// One.
        Count = "count",
        /// The reward of the event's behaviour.
        Weighted = "weighted",
    }
}

words! {
    /// A policy of a model directory (contract, section 4).
    Algorithm {
        /// `model_reinforce.pt`
        Reinforce = "reinforce",
        /// `model_ddpg.pt`
        Ddpg = "ddpg",
        /// `model_bcq.pt`
        Bcq = "bcq",
    }
}

words! {
    /// How a record is written (contract, section 1).
    Format {
        /// A line of fields.
        Csv = "csv",
        /// A JSON object; for messages of Kafka.
        Json = "json",
    }
}

words! {
    /// Unit of the times in a log.
    TimeUnit {
        /// Seconds.
        Seconds = "s",
        /// Milliseconds.
        Milliseconds = "ms",
    }
}

words! {
    /// Which ids the stores hold (contract, section 5).
    Ids {
        /// Those of the log.
        Raw = "raw",
        /// The model's indices.
        Model = "model",
    }
}

words! {
    /// How embeddings are made (contract, section 8).
    EmbeddingMethod {
        /// Two towers of users and items.
        Dssm = "dssm",
        /// Vectors of items alone, of what follows what.
        Spectral = "spectral",
    }
}

words! {
    /// The loss of the two towers (contract, section 8).
    EmbeddingLoss {
        /// 1 − cos for what happened, max(0, cos) for what did not: PyTorch's `CosineEmbeddingLoss` of margin 0.
        Cosine = "cosine",
        /// Binary cross-entropy of σ(cos).
        Bce = "bce",
    }
}
