//! The stack machine: instructions in, [`Node`]s out.

use hashbrown::HashMap;

use super::{Global, Node, NodeId, Pickle, PickleError};

const VALUES_MAX: usize = 1 << 18;
const STACK_MAX: usize = 1 << 16;
const MARKS_MAX: usize = 1 << 10;
const MEMO_MAX: usize = 1 << 16;
/// The longest `module name` pair of a global.
const GLOBAL_BYTES_MAX: usize = 1 << 10;
/// Python's `pickle.HIGHEST_PROTOCOL`.
const PROTOCOL_MAX: u8 = 5;

/// Runs a pickle to its end mark.
pub(super) fn run(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let input = Input { bytes, offset: 0 };
    let mut machine = Machine { input, nodes: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
    let root = machine.run()?;
    Ok(Pickle { nodes: machine.nodes, root, length_bytes: machine.input.offset })
}

struct Input<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(PickleError::Truncated)?;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        Ok(*self.take(N)?.first_chunk().expect("take returns as many bytes as asked"))
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, PickleError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.offset..];
        let window = &rest[..rest.len().min(GLOBAL_BYTES_MAX)];
        let Some(length) = memchr::memchr(b'\n', window) else {
            let limit = PickleError::Limit { what: "length of a name", limit: GLOBAL_BYTES_MAX };
            return Err(if rest.len() > window.len() { limit } else { PickleError::Truncated });
        };
        let text = self.text(length)?;
        self.offset += 1;
        Ok(text)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, PickleError> {
        let offset = self.offset;
        str::from_utf8(self.take(length)?)
            .map_err(|_| PickleError::Malformed { offset, what: "a string that is not UTF-8" })
    }
}

/// Instructions, named as in Python's `pickletools`.
mod op {
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const STOP: u8 = b'.';
    pub(super) const MARK: u8 = b'(';
    pub(super) const NONE: u8 = b'N';
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const INST: u8 = b'i';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const BINPERSID: u8 = b'Q';

    /// Names of refused instructions that a hostile or foreign pickle is likely to have.
    pub(super) fn name(opcode: u8) -> String {
        let name = match opcode {
            b'o' => "OBJ",
            0x81 => "NEWOBJ",
            0x92 => "NEWOBJ_EX",
            0x82..=0x84 => "EXT",
            b'P' => "PERSID",
            b'B' | b'C' | 0x8e | 0x96 => "BINBYTES",
            0x8f..=0x91 => "SET",
            b'I' | b'L' | b'F' | b'S' | b'V' | b'd' | b'l' | b'p' | b'g' => "of protocol 0",
            _ => return format!("{opcode:#04x}"),
        };
        name.to_owned()
    }
}

struct Machine<'a> {
    input: Input<'a>,
    nodes: Vec<Node<'a>>,
    stack: Vec<NodeId>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<NodeId, PickleError> {
        loop {
            match self.input.byte()? {
                op::STOP => return self.stop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn stop(&mut self) -> Result<NodeId, PickleError> {
        match (self.stack.as_slice(), self.marks.as_slice()) {
            (&[root], []) => Ok(root),
            _ => Err(self.malformed("it does not end with exactly one value")),
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            op::PROTO => self.protocol(),
            // A frame is a hint for buffering; its length carries no meaning.
            op::FRAME => self.input.take(8).map(drop),
            op::MARK => self.mark(),
            op::NONE => self.push(Node::None),
            op::NEWTRUE => self.push(Node::Bool(true)),
            op::NEWFALSE => self.push(Node::Bool(false)),
            op::BININT | op::BININT1 | op::BININT2 | op::LONG1 => self.integer(opcode),
            op::BINFLOAT => {
                let float = f64::from_be_bytes(self.input.array()?);
                self.push(Node::Float(float))
            }
            op::BINUNICODE | op::SHORT_BINUNICODE | op::BINUNICODE8 | op::BINSTRING | op::SHORT_BINSTRING => {
                self.string(opcode)
            }
            op::EMPTY_TUPLE => self.push(Node::Tuple(vec![])),
            op::TUPLE1 => self.tuple_of(1),
            op::TUPLE2 => self.tuple_of(2),
            op::TUPLE3 => self.tuple_of(3),
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))
            }
            op::EMPTY_LIST => self.push(Node::List(vec![])),
            op::APPEND => {
                let item = self.pop()?;
                self.append(&[item])
            }
            op::APPENDS => {
                let items = self.pop_to_mark()?;
                self.append(&items)
            }
            op::EMPTY_DICT => self.push(Node::Dict(vec![])),
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.put(opcode),
            op::BINGET | op::LONG_BINGET => self.get(opcode),
            op::GLOBAL | op::STACK_GLOBAL | op::INST => self.global(opcode),
            op::REDUCE => self.reduce(),
            op::BUILD => self.build(),
            op::BINPERSID => {
                let description = self.pop()?;
                self.push(Node::Persistent(description))
            }
            _ => Err(PickleError::Opcode { name: op::name(opcode), offset: self.input.offset - 1 }),
        }
    }

    fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { offset: self.input.offset.saturating_sub(1), what }
    }

    fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), PickleError> {
        if self.nodes.len() == VALUES_MAX {
            return Err(PickleError::Limit { what: "number of values", limit: VALUES_MAX });
        }
        let id = u32::try_from(self.nodes.len()).expect("VALUES_MAX fits 32 bits");
        self.nodes.push(node);
        self.push_id(NodeId(id))
    }

    fn push_id(&mut self, id: NodeId) -> Result<(), PickleError> {
        if self.stack.len() == STACK_MAX {
            return Err(PickleError::Limit { what: "stack", limit: STACK_MAX });
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<NodeId, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let id = if self.stack.len() > floor { self.stack.pop() } else { None };
        id.ok_or_else(|| self.malformed("it takes a value from an empty stack"))
    }

    fn top(&self) -> Result<NodeId, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| self.malformed("it takes a value from an empty stack"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<NodeId>, PickleError> {
        let floor = self.marks.pop().ok_or_else(|| self.malformed("it goes back to a mark that was not set"))?;
        Ok(self.stack.split_off(floor))
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() == MARKS_MAX {
            return Err(PickleError::Limit { what: "depth", limit: MARKS_MAX });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        match self.input.byte()? {
            2..=PROTOCOL_MAX => Ok(()),
            _ => Err(self.malformed("a protocol other than 2 to 5")),
        }
    }

    fn integer(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            op::BININT1 => i128::from(self.input.byte()?),
            op::BININT2 => i128::from(u16::from_le_bytes(self.input.array()?)),
            op::BININT => i128::from(i32::from_le_bytes(self.input.array()?)),
            _ => self.long()?,
        };
        self.push(Node::Int(value))
    }

    /// Little-endian two's complement of a length given before it.
    fn long(&mut self) -> Result<i128, PickleError> {
        let length = usize::from(self.input.byte()?);
        let bytes = self.input.take(length)?;
        let mut wide = [if bytes.last().is_some_and(|b| *b >= 0x80) { 0xff } else { 0 }; 16];
        let low = wide.get_mut(..length).ok_or_else(|| self.malformed("an integer of more than 128 bits"))?;
        low.copy_from_slice(bytes);
        Ok(i128::from_le_bytes(wide))
    }

    fn string(&mut self, opcode: u8) -> Result<(), PickleError> {
        let length = match opcode {
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => u64::from(self.input.byte()?),
            op::BINUNICODE | op::BINSTRING => u64::from(self.input.u32()?),
            _ => u64::from_le_bytes(self.input.array()?),
        };
        let length = usize::try_from(length).map_err(|_| PickleError::Truncated)?;
        let text = self.input.text(length)?;
        self.push(Node::Str(text))
    }

    fn tuple_of(&mut self, count: usize) -> Result<(), PickleError> {
        let mut items = vec![NodeId(0); count];
        for slot in items.iter_mut().rev() {
            *slot = self.pop()?;
        }
        self.push(Node::Tuple(items))
    }

    fn append(&mut self, items: &[NodeId]) -> Result<(), PickleError> {
        let list = self.top()?;
        match &mut self.nodes[list.0 as usize] {
            Node::List(list) => list.extend_from_slice(items),
            _ => return Err(self.malformed("it appends to something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[NodeId]) -> Result<(), PickleError> {
        let (pairs, odd) = items.as_chunks::<2>();
        let dict = self.top()?;
        match &mut self.nodes[dict.0 as usize] {
            Node::Dict(entries) if odd.is_empty() => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Node::Dict(_) => return Err(self.malformed("a key without a value")),
            _ => return Err(self.malformed("it sets an item of something that is no dict")),
        }
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<(), PickleError> {
        let slot = match opcode {
            op::BINPUT => u32::from(self.input.byte()?),
            op::LONG_BINPUT => self.input.u32()?,
            _ => u32::try_from(self.memo.len()).expect("the memo has at most MEMO_MAX entries"),
        };
        let id = self.top()?;
        self.memo.insert(slot, id);
        if self.memo.len() > MEMO_MAX {
            return Err(PickleError::Limit { what: "memo", limit: MEMO_MAX });
        }
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<(), PickleError> {
        let slot = if opcode == op::BINGET { u32::from(self.input.byte()?) } else { self.input.u32()? };
        let id = self.memo.get(&slot).copied();
        self.push_id(id.ok_or_else(|| self.malformed("it recalls a value that it never stored"))?)
    }

    fn global(&mut self, opcode: u8) -> Result<(), PickleError> {
        let (module, name) = if opcode == op::STACK_GLOBAL {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.node(module), self.node(name)) {
                (Node::Str(module), Node::Str(name)) => (*module, *name),
                _ => return Err(self.malformed("a global whose name is no string")),
            }
        } else {
            (self.input.line()?, self.input.line()?)
        };
        let global = Global::find(module, name)?;
        if opcode == op::INST {
            return Err(PickleError::Call(global.path()));
        }
        self.push(Node::Global(global))
    }

    /// A call: of the few things that a state_dict calls, each of which is only a notation for data.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Node::Tuple(values) = self.node(arguments) else {
            return Err(self.malformed("a call whose arguments are no tuple"));
        };
        let node = match self.node(function) {
            Node::Global(Global::OrderedDict) if values.is_empty() => Node::Dict(vec![]),
            Node::Global(Global::OrderedDict) => return Err(self.malformed("an OrderedDict with arguments")),
            Node::Global(Global::RebuildTensor) => Node::Tensor(arguments),
            Node::Global(Global::RebuildParameter) => Node::Parameter(arguments),
            Node::Global(global) => return Err(PickleError::Call(global.path())),
            other => return Err(PickleError::Call(other.kind().to_owned())),
        };
        self.push(node)
    }

    /// Attributes of an object. PyTorch gives its OrderedDict one, `_metadata` (versions of the modules), which no
    /// weight depends on: it is left out.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let object = self.top()?;
        match (self.node(object), self.node(state)) {
            (Node::Dict(_), Node::Dict(_)) => Ok(()),
            (Node::Dict(_), _) => Err(self.malformed("attributes that are no dict")),
            (other, _) => Err(PickleError::Call(format!("__setstate__ of {}", other.kind()))),
        }
    }
}
