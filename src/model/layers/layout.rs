//! Which tensors each algorithm's state_dict holds, and their shapes in terms of d, H, h and the catalogue.

use crate::model::{algorithm::Algorithm, state_dict::Nesting};

/// The sizes that shapes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the item table: count + 1.
    pub(super) items: usize,
    /// d.
    pub(super) dim: usize,
    /// H.
    pub(super) history: usize,
    /// h.
    pub(super) hidden: usize,
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sizes { items, dim, history, hidden } = self;
        write!(f, "d = {dim}, H = {history}, h = {hidden} and {} items", items - 1)
    }
}

/// A layer's number of inputs or outputs.
#[derive(Clone, Copy)]
pub(super) enum Width {
    /// d.
    Dim,
    /// h.
    Hidden,
    /// count + 1.
    Items,
    /// 2d, the length of BCQ's z.
    Latent,
    /// d(H+1), the length of s.
    State,
    /// s and an action.
    StateAction,
    /// s and z.
    StateLatent,
}

impl Sizes {
    pub(super) fn of(&self, width: Width) -> usize {
        let state = self.dim * (self.history + 1);
        match width {
            Width::Dim => self.dim,
            Width::Hidden => self.hidden,
            Width::Items => self.items,
            Width::Latent => 2 * self.dim,
            Width::State => state,
            Width::StateAction => state + self.dim,
            Width::StateLatent => state + 2 * self.dim,
        }
    }
}

/// One `Linear` of an algorithm.
pub(super) struct Layer {
    /// Its key without `.weight` and `.bias`.
    pub(super) key: &'static str,
    pub(super) outputs: Width,
    pub(super) inputs: Width,
    /// Whether it has a part in the answer, and so a place in [`Policy`].
    pub(super) decides: bool,
}

const fn deciding(key: &'static str, outputs: Width, inputs: Width) -> Layer {
    Layer { key, outputs, inputs, decides: true }
}

const fn unused(key: &'static str, outputs: Width, inputs: Width) -> Layer {
    Layer { key, outputs, inputs, decides: false }
}

/// What a state_dict of an algorithm holds.
pub(super) struct Layout {
    /// What the two tables' keys start with.
    tables: &'static str,
    pub(super) nesting: Nesting,
    /// In the order of the reference's files; the deciding ones are in the order of [`Policy`]'s fields, and the first
    /// of them is fed the state.
    pub(super) layers: &'static [Layer],
    /// What the first deciding layer is fed, in words.
    pub(super) first_inputs: &'static str,
    /// How much of that is beyond the state, in d.
    pub(super) first_inputs_beyond_state: usize,
}

const DDPG: Layout = Layout {
    tables: "",
    nesting: Nesting::Flat,
    layers: &[
        deciding("fc1", Width::Hidden, Width::State),
        deciding("fc2", Width::Hidden, Width::Hidden),
        deciding("fc3", Width::Dim, Width::Hidden),
    ],
    first_inputs: "d(H+1)",
    first_inputs_beyond_state: 0,
};

const REINFORCE: Layout = Layout {
    tables: "",
    nesting: Nesting::Flat,
    layers: &[
        unused("fc1", Width::Hidden, Width::State),
        unused("fc2", Width::Hidden, Width::Hidden),
        unused("fc3", Width::Items, Width::Hidden),
        deciding("pfc1", Width::Hidden, Width::State),
        deciding("pfc2", Width::Hidden, Width::Hidden),
        deciding("softmax_fc", Width::Items, Width::Hidden),
    ],
    first_inputs: "d(H+1)",
    first_inputs_beyond_state: 0,
};

const BCQ: Layout = Layout {
    tables: "generator.",
    nesting: Nesting::ByFirstDot,
    layers: &[
        unused("generator.fc1", Width::Hidden, Width::State),
        unused("generator.fc2", Width::Hidden, Width::Hidden),
        unused("generator.fc3", Width::Dim, Width::Hidden),
        unused("generator.encoder1", Width::Hidden, Width::StateAction),
        unused("generator.encoder2", Width::Hidden, Width::Hidden),
        unused("generator.mean", Width::Latent, Width::Hidden),
        unused("generator.log_std", Width::Latent, Width::Hidden),
        deciding("generator.decoder1", Width::Hidden, Width::StateLatent),
        deciding("generator.decoder2", Width::Hidden, Width::Hidden),
        deciding("generator.decoder3", Width::Dim, Width::Hidden),
        deciding("perturbator.fc1", Width::Hidden, Width::StateAction),
        deciding("perturbator.fc2", Width::Hidden, Width::Hidden),
        deciding("perturbator.fc3", Width::Dim, Width::Hidden),
    ],
    first_inputs: "d(H+1) + 2d",
    first_inputs_beyond_state: 2,
};

impl Layout {
    pub(super) fn of(algorithm: Algorithm) -> &'static Layout {
        match algorithm {
            Algorithm::Reinforce => &REINFORCE,
            Algorithm::Ddpg => &DDPG,
            Algorithm::Bcq => &BCQ,
        }
    }

    pub(super) fn users_key(&self) -> String {
        format!("{}user_embeds.weight", self.tables)
    }

    pub(super) fn items_key(&self) -> String {
        format!("{}item_embeds.weight", self.tables)
    }

    /// Every key, in the order of the reference's files.
    pub(super) fn keys(&self) -> Vec<String> {
        let layers = self.layers.iter().flat_map(|layer| [weight_key(layer.key), bias_key(layer.key)]);
        [self.users_key(), self.items_key()].into_iter().chain(layers).collect()
    }

    /// The first layer that is fed the state and decides.
    pub(super) fn first(&self) -> &Layer {
        self.layers.iter().find(|layer| layer.decides).expect("every layout has deciding layers")
    }
}

pub(super) fn weight_key(layer: &str) -> String {
    format!("{layer}.weight")
}

pub(super) fn bias_key(layer: &str) -> String {
    format!("{layer}.bias")
}
