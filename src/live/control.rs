//! What workers tell each other beside the data: how far partitions are, what is proposed and decided, snapshots, the end.
//!
//! Every message goes to every worker, the sender too, in the order in which it was sent.

use super::start::Start;
use super::watermarks::Told;
use crate::journal::Decision;
use dataflows::event::Time;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Input, Inspect};
use timely::worker::Worker;

/// What one worker tells all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Where the run starts. From worker 0, before anything else.
    Start(Box<Start>),
    /// The restored window holds events up to this window end and no longer. From worker 0.
    Window(Time),
    /// How far a partition is. From its owner.
    Told(u32, Told),
    /// A decision that is to be made durable, and has no effect before. From the partition's owner to worker 0.
    Proposed(#[serde(with = "as_json")] Decision),
    /// It is durable. From worker 0 to the owner.
    Decided(#[serde(with = "as_json")] Decision),
    /// This request for a snapshot was made: where is each partition to be read from then? From worker 0.
    Snapshot(Time),
    /// That snapshot counts: there will be no return to before it. From worker 0.
    Published(Time),
    /// Whether results wait that the sinks have no room for: nothing is read meanwhile. From worker 0.
    Full(bool),
    /// Somebody wants the run to stop: nothing more is read.
    Stopping,
    /// No result can get out any more, so inputs may be closed. From worker 0.
    Detached,
}

/// The way of messages from every worker to every worker.
pub(super) struct Control {
    input: InputHandle<Time, CapacityContainerBuilder<Vec<Message>>>,
    heard: Rc<RefCell<VecDeque<Message>>>,
}

impl Control {
    /// Builds it on one worker.
    pub(super) fn build(worker: &mut Worker) -> Control {
        let heard = Rc::new(RefCell::new(VecDeque::new()));
        let ears = heard.clone();
        let input = worker.dataflow::<Time, _, _>(|scope| {
            let (input, messages) = scope.new_input::<Vec<Message>>();
            messages.broadcast().inspect(move |message| ears.borrow_mut().push_back(message.clone()));
            input
        });
        Control { input, heard }
    }

    /// Tells all workers, this one too.
    pub(super) fn tell(&mut self, message: Message) {
        self.input.send(message);
        self.input.flush();
    }

    /// Where the run starts, once that has come. What others have told meanwhile stays.
    pub(super) fn start(&mut self) -> Option<Start> {
        let mut heard = self.heard.borrow_mut();
        let at = heard.iter().position(|message| matches!(message, Message::Start(_)))?;
        match heard.remove(at) {
            Some(Message::Start(start)) => Some(*start),
            _ => None,
        }
    }

    /// The next message that has come.
    pub(super) fn next(&mut self) -> Option<Message> {
        self.heard.borrow_mut().pop_front()
    }
}

/// Decisions between processes: their form in the journal names its fields, which timely's own encoding can't read.
pub(super) mod as_json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<T: Serialize, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serde_json::to_string(value).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
