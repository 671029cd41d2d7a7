//! A reader of the part of Python's pickle format that a PyTorch `state_dict` uses. It builds plain data; it never runs
//! anything.
//!
//! A pickle is a program for a small stack machine, and among its instructions are "look up this Python function" and
//! "call it". This machine has no functions to call: it knows the few names of [`Global`], turns a call of them into
//! data, and refuses every other name and instruction by its name. Protocols 2 to 5 are understood, which is what
//! `torch.save` can write.
//!
//! Values live in one arena and refer to each other by index. So a nest of any depth costs no recursion when read or
//! dropped, a list that holds itself is harmless, and a value that is used many times is stored once: memory is bounded
//! by a constant times the length of the input.

mod machine;

use super::error::excerpt;

/// A state_dict of a few dozen tensors takes a few kilobytes.
pub const BYTES_MAX: usize = 1 << 20;

/// Why a pickle was refused. Offsets are in bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The end came too early.
    #[error("the pickle ends in the middle of an instruction or before its end mark")]
    Truncated,
    /// A name that a state_dict has no use for, such as `os.system`.
    #[error("it asks for the Python object {0}, which no state_dict of float tensors needs: refused, nothing was run")]
    Global(String),
    /// A call of something that is no function of [`Global`].
    #[error("it asks to call {0}, which no state_dict of float tensors needs: refused, nothing was run")]
    Call(String),
    /// An instruction that a state_dict has no use for.
    #[error(
        "it has the pickle instruction {name} at byte {offset}, which no state_dict needs: refused, nothing was run"
    )]
    Opcode {
        /// Python's name of it.
        name: String,
        /// Where.
        offset: usize,
    },
    /// Instructions that make no sense.
    #[error("the pickle is damaged at byte {offset}: {what}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A limit of this reader.
    #[error("the pickle's {what} goes beyond {limit}, more than any state_dict needs")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much.
        limit: usize,
    },
}

/// The names that may be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.FloatStorage`.
    FloatStorage,
    /// `torch.DoubleStorage`.
    DoubleStorage,
    /// `torch.HalfStorage`.
    HalfStorage,
    /// `torch.BFloat16Storage`.
    BFloat16Storage,
}

impl Global {
    const NAMES: [(&'static str, &'static str, Global); 7] = [
        ("collections", "OrderedDict", Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
        ("torch", "FloatStorage", Global::FloatStorage),
        ("torch", "DoubleStorage", Global::DoubleStorage),
        ("torch", "HalfStorage", Global::HalfStorage),
        ("torch", "BFloat16Storage", Global::BFloat16Storage),
    ];

    fn find(module: &str, name: &str) -> Result<Global, PickleError> {
        let known = Global::NAMES.iter().find(|(m, n, _)| (*m, *n) == (module, name));
        known.map(|(_, _, global)| *global).ok_or_else(|| PickleError::Global(excerpt(&format!("{module}.{name}"))))
    }

    fn path(self) -> String {
        let (module, name, _) = Global::NAMES.iter().find(|(.., g)| *g == self).expect("every variant is in NAMES");
        format!("{module}.{name}")
    }
}

/// A value's place in [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` of up to 128 bits.
    Int(i128),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(&'a str),
    /// A `tuple`.
    Tuple(Vec<NodeId>),
    /// A `list`.
    List(Vec<NodeId>),
    /// A `dict` or `OrderedDict`: entries in the order given, duplicates not removed.
    Dict(Vec<(NodeId, NodeId)>),
    /// A known name.
    Global(Global),
    /// A reference to something outside the pickle, described by a tuple: in PyTorch, a storage.
    Persistent(NodeId),
    /// `_rebuild_tensor_v2` with its arguments, a tuple.
    Tensor(NodeId),
    /// `_rebuild_parameter` with its arguments, a tuple.
    Parameter(NodeId),
}

impl Node<'_> {
    /// What it is, in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool(_) => "a bool",
            Node::Int(_) => "an int",
            Node::Float(_) => "a float",
            Node::Str(_) => "a string",
            Node::Tuple(_) => "a tuple",
            Node::List(_) => "a list",
            Node::Dict(_) => "a dict",
            Node::Global(_) => "a function or class",
            Node::Persistent(_) => "a storage",
            Node::Tensor(_) | Node::Parameter(_) => "a tensor",
        }
    }
}

/// A pickle, read.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: NodeId,
    length_bytes: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the start of `bytes`, which may go on after it.
    pub fn read(bytes: &'a [u8]) -> Result<Pickle<'a>, PickleError> {
        match machine::run(&bytes[..bytes.len().min(BYTES_MAX)]) {
            Err(PickleError::Truncated) if bytes.len() > BYTES_MAX => {
                Err(PickleError::Limit { what: "length in bytes", limit: BYTES_MAX })
            }
            outcome => outcome,
        }
    }

    /// The value that the whole pickle stands for.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// A value.
    pub fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    /// Bytes from the pickle's start to its end mark.
    pub fn length_bytes(&self) -> usize {
        self.length_bytes
    }
}
