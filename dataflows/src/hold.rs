//! One capability for everything an operator has yet to put out.

use crate::event::Time;
use timely::dataflow::operators::{Capability, InputCapability};

/// Holds the frontier of one output at the least time that the operator still owes something.
///
/// Records carry their own times, which are never before those of the messages they travel in; so one capability at the
/// least of them serves for all, and progress costs the same however many ticks are in flight.
#[derive(Default)]
pub(crate) struct Hold {
    capability: Option<Capability<Time>>,
}

impl Hold {
    /// Sees to it that something may be put out at `time`.
    ///
    /// `time` must not be before the message that `capability` came with.
    pub(crate) fn cover(&mut self, capability: &InputCapability<Time>, time: Time, port: usize) {
        if self.capability.as_ref().is_none_or(|held| *held.time() > time) {
            self.capability = Some(capability.delayed(&time, port));
        }
    }

    /// The capability, while anything is owed.
    pub(crate) fn get(&self) -> Option<&Capability<Time>> {
        self.capability.as_ref()
    }

    /// From now on nothing is owed before `next` (`None`: nothing at all).
    pub(crate) fn release(&mut self, next: Option<Time>) {
        match (next, self.capability.as_mut()) {
            (Some(next), Some(held)) if *held.time() < next => held.downgrade(&next),
            (None, _) => self.capability = None,
            _ => {}
        }
    }
}
