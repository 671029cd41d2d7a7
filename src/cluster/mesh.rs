//! Connects every process with every other, with a deadline, before any work begins.
//!
//! ```text
//!  dial lower indices ─┐            all seated?          all ready?
//!                      ├─▶ seats ─────────────▶ "ready" ───────────▶ sockets
//!  accept higher ones ─┘      ▲ │
//!                             └─┘ a peer that goes is waited for again
//! ```
//!
//! Threads of [`super::meet`] do what blocks and send [`Event`]s; the state is here, in one place. Each peer has a seat.
//! Once all seats are taken we say `Ready`; once every peer has said it too, all hand their sockets to timely. Until we
//! have said it, a peer may die and come again; after that its loss is an error.

use super::handshake::{Message, write_message};
use super::meet::{Event, Meeting, Met};
use super::{Agreement, Cluster, ClusterError};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

/// A process that is connected with all others.
pub(super) struct Connected {
    /// The socket of process i is at index i; `None` at our own.
    pub(super) sockets: Vec<Option<TcpStream>>,
    /// Those of process 0.
    pub(super) wishes: Vec<String>,
}

/// Connects this process with all others of `cluster`.
pub(super) fn connect(cluster: &Cluster, agreement: &Agreement) -> Result<Connected, ClusterError> {
    let index = cluster.index;
    let address = &cluster.addresses[index];
    let listener = TcpListener::bind(address.as_str()).map_err(|cause| ClusterError::Listen {
        index,
        address: address.clone(),
        cause,
    })?;
    connect_at(listener, cluster, agreement)
}

fn connect_at(listener: TcpListener, cluster: &Cluster, agreement: &Agreement) -> Result<Connected, ClusterError> {
    let (events, inbox) = mpsc::channel();
    let meeting = Arc::new(Meeting::new(cluster.clone(), agreement.clone(), events));
    let accepting = spawn(&meeting, move |meeting| meeting.accept_all(&listener))?;
    for lower in 0..cluster.index {
        spawn(&meeting, move |meeting| meeting.dial(lower))?;
    }
    let result = Seats::new(&meeting).fill(&inbox);
    meeting.close();
    // The port is free again when this returns.
    let _ = accepting.join();
    result
}

fn spawn(
    meeting: &Arc<Meeting>,
    task: impl FnOnce(&Arc<Meeting>) + Send + 'static,
) -> Result<thread::JoinHandle<()>, ClusterError> {
    let meeting = Arc::clone(meeting);
    thread::Builder::new()
        .name("cluster:meet".to_owned())
        .spawn(move || task(&meeting))
        .map_err(|cause| ClusterError::System { action: "start a thread", cause })
}

struct Seat {
    peer: Met,
    ready: bool,
}

struct Seats<'a> {
    cluster: &'a Cluster,
    meeting: &'a Meeting,
    seats: Vec<Option<Seat>>,
    /// Whether we have said `Ready`.
    announced: bool,
    deadline: Instant,
}

impl<'a> Seats<'a> {
    fn new(meeting: &'a Meeting) -> Seats<'a> {
        let cluster = &meeting.cluster;
        let seats = (0..cluster.processes).map(|_| None).collect();
        Seats { cluster, meeting, seats, announced: false, deadline: Instant::now() + cluster.connect_timeout }
    }

    fn fill(mut self, inbox: &Receiver<Event>) -> Result<Connected, ClusterError> {
        match self.wait_for_all(inbox).and_then(|()| self.connected()) {
            Ok(connected) => Ok(connected),
            Err(error) => {
                self.refuse_all(&error);
                Err(error)
            }
        }
    }

    fn wait_for_all(&mut self, inbox: &Receiver<Event>) -> Result<(), ClusterError> {
        loop {
            if !self.announced && self.others().all(|index| self.seats[index].is_some()) {
                self.announce()?;
            }
            if self.announced && self.others().all(|index| self.seats[index].as_ref().is_some_and(|seat| seat.ready)) {
                return Ok(());
            }
            match inbox.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.take(event)?,
                Err(_) => return Err(self.overdue()),
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), ClusterError> {
        match event {
            Event::Met(met) => self.seat(met),
            Event::Ready { index, connection } => {
                if let Some(seat) = self.seat_of(index, connection) {
                    seat.ready = true;
                }
            }
            Event::Gone { index, connection } => {
                if self.seat_of(index, connection).is_some() {
                    if self.announced {
                        return Err(self.went_away(index));
                    }
                    self.seats[index] = None;
                }
            }
            Event::Stop(error) => return Err(error),
        }
        Ok(())
    }

    fn seat(&mut self, met: Met) {
        let index = met.index;
        if self.seats[index].is_none() {
            self.seats[index] = Some(Seat { peer: met, ready: false });
        } else {
            met.refuse(&format!("another process is connected as process {index}; was -p {index} given twice?"));
        }
    }

    fn seat_of(&mut self, index: usize, connection: u64) -> Option<&mut Seat> {
        self.seats[index].as_mut().filter(|seat| seat.peer.connection == connection)
    }

    fn announce(&mut self) -> Result<(), ClusterError> {
        for index in 0..self.seats.len() {
            let Some(seat) = &mut self.seats[index] else { continue };
            if write_message(&mut seat.peer.stream, &Message::Ready).is_err() {
                return Err(self.went_away(index));
            }
        }
        self.announced = true;
        // The others have a full timeout of their own, which may have begun later.
        self.deadline = Instant::now() + self.cluster.connect_timeout;
        Ok(())
    }

    fn connected(&mut self) -> Result<Connected, ClusterError> {
        let first = self.seats[0].as_mut().map(|seat| std::mem::take(&mut seat.peer.wishes));
        let wishes = first.unwrap_or_else(|| self.meeting.agreement.wishes.clone());
        let streams = self.seats.drain(..).map(|seat| seat.map(|seat| seat.peer.into_stream()).transpose());
        let sockets = streams.collect::<Result<_, _>>();
        let sockets = sockets.map_err(|cause| ClusterError::System { action: "prepare a socket", cause })?;
        Ok(Connected { sockets, wishes })
    }

    fn refuse_all(&self, error: &ClusterError) {
        // Without a chain of "process 0 gave up: process 1 … gave up".
        let reason = match error {
            ClusterError::GaveUp { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        for seat in self.seats.iter().flatten() {
            seat.peer.refuse(&reason);
        }
    }

    /// The indices of the other processes.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.cluster.index;
        (0..self.cluster.processes).filter(move |&index| index != own)
    }

    fn overdue(&self) -> ClusterError {
        let missing = |&index: &usize| !self.seats[index].as_ref().is_some_and(|seat| seat.ready || !self.announced);
        let index = self.others().find(missing).expect("somebody is missing, or there was nothing to wait for");
        let cause = match self.seats[index] {
            Some(_) => "it is connected, but still waits for another".to_owned(),
            None => self.meeting.trouble(index),
        };
        let address = self.cluster.addresses[index].clone();
        ClusterError::Missing { index, address, waited: self.cluster.connect_timeout, cause }
    }

    fn went_away(&self, index: usize) -> ClusterError {
        ClusterError::WentAway { index, address: self.cluster.addresses[index].clone() }
    }
}

#[cfg(test)]
mod tests;
